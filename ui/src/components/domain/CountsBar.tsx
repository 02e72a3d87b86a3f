// How many jobs stand where, as one bar.
import type { JobState, StateCounts } from '@/api/types';
import { cx } from '@/lib/cx';
import { formatCount } from '@/lib/format';
import { STATE_LABEL } from './job-text';

const PARTS: [JobState, string][] = [
  ['done', 'bg-good-fill'],
  ['running', 'bg-lamp'],
  ['failed', 'bg-bad'],
  ['cancelled', 'bg-ink-3'],
];

export function CountsBar({ counts, className }: { counts: StateCounts; className?: string }) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0) || 1;
  const words = (Object.keys(counts) as JobState[])
    .filter((state) => counts[state])
    .map((state) => `${formatCount(counts[state])} ${STATE_LABEL[state].toLowerCase()}`)
    .join(', ');
  return (
    <div
      role="img"
      aria-label={words || 'nothing yet'}
      className={cx('bg-hover flex h-1.5 gap-px overflow-hidden rounded-full', className)}
    >
      {PARTS.map(([state, colour]) =>
        counts[state] ? (
          <div
            key={state}
            className={cx('transition-[flex-grow] duration-300', colour)}
            style={{ flexGrow: counts[state] / total }}
          />
        ) : null,
      )}
      <div style={{ flexGrow: (counts.queued + counts.paused) / total }} />
    </div>
  );
}
