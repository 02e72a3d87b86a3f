// A number that is typed or stepped with the arrow keys; empty means "the default".
import { useState, type InputHTMLAttributes } from 'react';

import { cx } from '@/lib/cx';
import { controlClass } from './Field';

interface NumberInputProps extends Omit<
  InputHTMLAttributes<HTMLInputElement>,
  'value' | 'onChange' | 'type'
> {
  value: number | null;
  onValue(value: number | null): void;
  step?: number;
  min?: number;
  max?: number;
}

/** A number from what was typed: `null` when empty, `undefined` when it is none. */
export function parseNumber(text: string): number | null | undefined {
  const trimmed = text.trim().replace(',', '.');
  if (!trimmed) return null;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : undefined;
}

export function NumberInput({
  value,
  onValue,
  step = 1,
  min,
  max,
  className,
  onBlur,
  onKeyDown,
  ...props
}: NumberInputProps) {
  // What is being typed, until it is a number or left.
  const [draft, setDraft] = useState<string | null>(null);
  const shown = draft ?? (value === null ? '' : String(value));

  const nudge = (direction: number) => {
    const from = value ?? (Number(props.placeholder) || 0);
    const digits = String(step).split('.')[1]?.length ?? 0;
    const next = Number((from + direction * step).toFixed(digits));
    setDraft(null);
    onValue(Math.min(max ?? Infinity, Math.max(min ?? -Infinity, next)));
  };

  return (
    <input
      inputMode="decimal"
      autoComplete="off"
      className={cx(controlClass, 'tnum h-9 w-full min-w-0 px-2.5 text-base', className)}
      value={shown}
      onChange={(event) => {
        const text = event.target.value;
        setDraft(text);
        const parsed = parseNumber(text);
        if (parsed !== undefined) onValue(parsed);
      }}
      onBlur={(event) => {
        setDraft(null);
        onBlur?.(event);
      }}
      onKeyDown={(event) => {
        if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
          event.preventDefault();
          nudge((event.key === 'ArrowUp' ? 1 : -1) * (event.shiftKey ? 10 : 1));
        }
        onKeyDown?.(event);
      }}
      {...props}
    />
  );
}
