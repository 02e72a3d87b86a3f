// Where the time of one job went, as a bar and in numbers.
import type { Timings } from '@/api/types';
import { formatMilliseconds } from '@/lib/format';

const PARTS = [
  ['loading_ms', 'Loading the model', 'var(--info-fill)'],
  ['encoding_ms', 'Reading the prompt', 'var(--good-fill)'],
  ['generating_ms', 'Painting', 'var(--lamp)'],
  ['decoding_ms', 'Developing', 'var(--warn-fill)'],
  ['saving_ms', 'Saving', 'var(--ink-3)'],
] as const;

export function TimingsBar({ timings }: { timings: Timings }) {
  const total = PARTS.reduce((sum, [key]) => sum + timings[key], 0);
  return (
    <div>
      <div className="flex h-2 gap-px overflow-hidden rounded-full" aria-hidden="true">
        {PARTS.map(([key, , colour]) =>
          timings[key] > 0 ? (
            <div key={key} style={{ flexGrow: timings[key] / (total || 1), background: colour }} />
          ) : null,
        )}
      </div>
      <dl className="tnum mt-2 grid grid-cols-[minmax(0,1fr)_auto] gap-x-4 gap-y-1 text-sm">
        {PARTS.filter(([key]) => timings[key] > 0).map(([key, label, colour]) => (
          <div key={key} className="contents">
            <dt className="text-ink-2 flex items-center gap-2">
              <span
                className="size-2 rounded-full"
                style={{ background: colour }}
                aria-hidden="true"
              />
              {label}
            </dt>
            <dd className="text-right">{formatMilliseconds(timings[key])}</dd>
          </div>
        ))}
        <dt className="font-medium">All</dt>
        <dd className="text-right font-medium">{formatMilliseconds(total)}</dd>
      </dl>
      {(timings.batch > 1 || timings.resumed_steps > 0 || timings.queued_ms >= 1000) && (
        <p className="text-ink-3 mt-1.5 text-xs">
          {[
            timings.queued_ms >= 1000 &&
              `${formatMilliseconds(timings.queued_ms)} in the queue before`,
            timings.batch > 1 && `painted together with ${timings.batch - 1} others`,
            timings.resumed_steps > 0 &&
              `${timings.resumed_steps} steps taken over from a checkpoint`,
          ]
            .filter(Boolean)
            .join(' · ')}
        </p>
      )}
    </div>
  );
}
