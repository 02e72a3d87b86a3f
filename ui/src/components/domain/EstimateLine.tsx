// What pictures will cost, in one line: time, wait, memory, disk.
import { Clock, HardDrive, MemoryStick, type LucideIcon } from 'lucide-react';
import type { ReactNode } from 'react';

import type { Estimate } from '@/api/types';
import { Tooltip } from '@/components/ui/Tooltip';
import { cx } from '@/lib/cx';
import { formatBytes, formatBytesOf, formatDuration, plural } from '@/lib/format';

/** `about 41 s ± 4 s` with what it waits for, or that nothing like it ever ran here. */
export function describeTime(estimate: Estimate): string {
  const wait = estimate.wait_seconds ?? 0;
  const queue = wait >= 1 ? `, after ${formatDuration(wait)} of queue` : '';
  if (estimate.seconds === null) return `time not known yet${queue}`;
  const margin = estimate.margin_seconds ?? 0;
  const range = margin >= 0.1 ? ` ± ${formatDuration(margin)}` : '';
  return `about ${formatDuration(estimate.seconds)}${range}${queue}`;
}

function Part({
  icon: Icon,
  about,
  isTight,
  children,
}: {
  icon: LucideIcon;
  about: string;
  isTight?: boolean;
  children: ReactNode;
}) {
  return (
    <Tooltip side="top" label={about}>
      <button
        type="button"
        className={cx(
          'flex min-h-6 cursor-default items-center gap-1.5 rounded-sm whitespace-nowrap',
          isTight && 'text-bad font-medium',
        )}
      >
        <Icon size={13} className={isTight ? '' : 'text-ink-3'} aria-hidden="true" />
        {children}
      </button>
    </Tooltip>
  );
}

export function EstimateLine({
  estimate,
  hasTime = true,
  className,
}: {
  estimate: Estimate | null | undefined;
  /** Whether the time is said here, and not beside it. */
  hasTime?: boolean;
  className?: string;
}) {
  return (
    <div className={cx('text-ink-2 tnum flex flex-wrap items-center gap-x-3 text-xs', className)}>
      {estimate && (
        <>
          {hasTime && (
            <Part
              icon={Clock}
              about={
                estimate.seconds === null
                  ? 'The first run on this machine will tell.'
                  : `From ${plural(estimate.runs, 'earlier run')} on this machine`
              }
            >
              {describeTime(estimate)}
            </Part>
          )}
          <Part
            icon={MemoryStick}
            about={`Memory: ${formatBytesOf(estimate.memory_needed, estimate.memory_available)} at the peak`}
            isTight={estimate.memory_needed > estimate.memory_available}
          >
            {formatBytesOf(estimate.memory_needed, estimate.memory_available)}
          </Part>
          <Part
            icon={HardDrive}
            about={`Disk: about ${formatBytes(estimate.disk_needed)}, ${formatBytes(estimate.disk_available)} free`}
            isTight={estimate.disk_needed > estimate.disk_available}
          >
            {formatBytes(estimate.disk_needed)}
          </Part>
        </>
      )}
    </div>
  );
}
