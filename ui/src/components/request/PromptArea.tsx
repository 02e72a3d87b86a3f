// A text for a model to read. Ctrl+↑ and Ctrl+↓ weigh the selected words, where the model reads
// weights.
import type { KeyboardEvent, Ref, TextareaHTMLAttributes } from 'react';

import { TextArea } from '@/components/ui/Field';
import { weigh } from '@/lib/emphasis';
import { matchesChord } from '@/lib/keys';

interface PromptAreaProps extends Omit<
  TextareaHTMLAttributes<HTMLTextAreaElement>,
  'value' | 'onChange'
> {
  value: string;
  onValue(value: string): void;
  /** Whether `(word:1.2)` means something to the model. */
  hasWeights: boolean;
  ref?: Ref<HTMLTextAreaElement>;
}

export function PromptArea({ value, onValue, hasWeights, ...props }: PromptAreaProps) {
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (!hasWeights) return;
    const isUp = matchesChord(event.nativeEvent, 'mod+arrowup');
    if (!isUp && !matchesChord(event.nativeEvent, 'mod+arrowdown')) return;
    event.preventDefault();
    const area = event.currentTarget;
    const selected = { text: area.value, start: area.selectionStart, end: area.selectionEnd };
    const next = weigh(selected, (isUp ? 1 : -1) * (event.shiftKey ? 0.01 : 0.1));
    if (!next) return;
    replace(area, next.text);
    area.setSelectionRange(next.start, next.end);
    onValue(next.text);
  };
  return (
    <TextArea
      {...props}
      value={value}
      onChange={(event) => onValue(event.target.value)}
      onKeyDown={onKeyDown}
    />
  );
}

/** Changes what differs, as if it was typed, so that it can be undone. */
function replace(area: HTMLTextAreaElement, text: string): void {
  const before = area.value;
  let start = 0;
  while (start < before.length && before[start] === text[start]) start += 1;
  let [end, last] = [before.length, text.length];
  while (end > start && last > start && before[end - 1] === text[last - 1]) {
    end -= 1;
    last -= 1;
  }
  area.setSelectionRange(start, end);
  const inserted = text.slice(start, last);
  // Deprecated, and the only way into the undo history of a text field. Not everywhere there.
  const isTyped =
    typeof document.execCommand === 'function' &&
    document.execCommand(inserted ? 'insertText' : 'delete', false, inserted);
  if (!isTyped || area.value !== text) area.value = text;
}
