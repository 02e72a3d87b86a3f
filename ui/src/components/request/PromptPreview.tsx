// What a prompt with choices becomes: how many combinations, and the words of some of them.
import { Shuffle } from 'lucide-react';
import { useId, useState } from 'react';

import { usePromptPreview } from '@/api/queries';
import type { PreviewInput, PromptPreview as Preview } from '@/api/types';
import { Button } from '@/components/ui/Button';
import { Segmented } from '@/components/ui/Segmented';
import type { Draft } from '@/lib/draft';
import { formatCount } from '@/lib/format';
import { useDebounced } from '@/lib/hooks';

const ASK_AFTER_MS = 220;
const SHOWN = 6;
/** Where the server stops counting. */
const UNCOUNTED = Number.MAX_SAFE_INTEGER;

/** Whether there may be something to read in a text; the server knows. */
const mayHaveChoices = (text: string) => /[{<\\]/.test(text);

interface PromptPreviewProps {
  draft: Draft;
  onChange(change: Partial<Draft>): void;
}

export function PromptPreview({ draft, onChange }: PromptPreviewProps) {
  const { prompt, negative_prompt, expansion } = useDebounced(draft, ASK_AFTER_MS);
  const isAsked = mayHaveChoices(draft.prompt) || mayHaveChoices(draft.negative_prompt);
  const input: PreviewInput = {
    prompt,
    negative_prompt,
    expansion: expansion === 'combinations' ? 'combinations' : 'random',
    seed: draft.seed,
    model: draft.model,
    limit: 30,
  };
  const { data } = usePromptPreview(isAsked ? input : null);
  if (!isAsked || !data || data.is_plain || data.problems.length) return null;
  if (draft.expansion === 'off') {
    return (
      <div className="bg-raised flex items-center gap-2 rounded-md py-1.5 pr-1.5 pl-3 text-sm">
        <p className="text-ink-2 min-w-0 flex-1">The prompt is taken as it is written.</p>
        <Button size="sm" variant="ghost" onClick={() => onChange({ expansion: null })}>
          Read its choices
        </Button>
      </div>
    );
  }
  return <Shown preview={data} draft={draft} onChange={onChange} />;
}

function countOf(preview: Preview): string {
  if (preview.total >= UNCOUNTED) return `more than ${formatCount(UNCOUNTED)} combinations`;
  return preview.total === 1 ? '1 combination' : `${formatCount(preview.total)} combinations`;
}

function Shown({
  preview,
  draft,
  onChange,
}: PromptPreviewProps & {
  preview: Preview;
}) {
  const [isWhole, setWhole] = useState(false);
  const title = useId();
  const isAll = draft.expansion === 'combinations';
  const copies = draft.copies ?? 1;
  // With a seed of one's own these are the very words of the pictures.
  const shown =
    !isAll && draft.seed !== null ? preview.expansions.slice(0, copies) : preview.expansions;
  const few = isWhole ? shown : shown.slice(0, SHOWN);
  const about = isAll
    ? 'One picture each, all with the same seed.'
    : draft.seed === null
      ? 'Each picture draws its own words; for example:'
      : 'The words that this seed draws:';
  return (
    <section aria-labelledby={title} className="bg-raised flex flex-col gap-2 rounded-md p-3">
      <div className="flex flex-wrap items-center gap-2">
        <Shuffle size={14} className="text-ink-3" aria-hidden="true" />
        <h3 id={title} aria-live="polite" className="tnum min-w-0 flex-1 text-sm font-medium">
          {countOf(preview)}
        </h3>
        {(preview.total > 1 || isAll) && (
          <Segmented
            label="What becomes of the choices"
            value={isAll ? 'combinations' : 'random'}
            options={[
              { value: 'random', label: 'Draw' },
              { value: 'combinations', label: 'All of them' },
            ]}
            onValue={(next) => onChange({ expansion: next === 'random' ? null : next })}
          />
        )}
      </div>
      {isAll && preview.total * copies > preview.limit && (
        <p className="text-warn text-xs">
          One request makes at most {formatCount(preview.limit)} pictures.
        </p>
      )}
      <p className="text-ink-3 text-xs">{about}</p>
      <ol className="flex flex-col gap-1 text-sm">
        {few.map((text, index) => (
          <li key={index} className="text-ink-2 flex gap-2">
            <span className="text-ink-3 tnum w-5 shrink-0 text-right text-xs leading-5">
              {index + 1}
            </span>
            <span className="min-w-0 break-words">
              {text.prompt}
              {text.negative_prompt && (
                <span className="text-ink-3"> — without {text.negative_prompt}</span>
              )}
            </span>
          </li>
        ))}
      </ol>
      {shown.length > SHOWN && (
        <Button size="sm" variant="ghost" className="self-start" onClick={() => setWhole(!isWhole)}>
          {isWhole ? 'Show fewer' : `Show ${shown.length}`}
        </Button>
      )}
      {preview.steps.length > 1 && (
        <p className="text-ink-3 text-xs">Over the steps: {preview.steps.join(' → ')}</p>
      )}
    </section>
  );
}
