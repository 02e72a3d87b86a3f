// A list that was run, row by row: what was asked, where it stands, what came of it.
import { useVirtualizer } from '@tanstack/react-virtual';
import { Clapperboard, RotateCw, Sparkles } from 'lucide-react';
import { useEffect, useRef } from 'react';

import { useCommand } from '@/api/client';
import type { Windowed } from '@/api/queries';
import type { Job } from '@/api/types';
import {
  describeCode,
  describeFix,
  describeWait,
  STATE_LABEL,
  STATE_TONE,
} from '@/components/domain/job-text';
import { JobProgress } from '@/components/domain/JobProgress';
import { JobTile } from '@/components/domain/JobTile';
import { toastError } from '@/components/toast';
import { IconButton } from '@/components/ui/Button';
import { Badge, Skeleton } from '@/components/ui/Feedback';
import { useClips } from '@/components/use-clips';
import { cx } from '@/lib/cx';
import { formatDuration } from '@/lib/format';

const ROW = 48;

/** The line of the file, and the copy where a row makes several: `7`, `7.2`. */
export function rowNumber(job: Job, index: number): string {
  const number = job.line ?? index + 1;
  return job.copy ? `${number}.${job.copy + 1}` : String(number);
}

/** Seconds that the machine worked on it; null while it has not ended. */
export function workSeconds(job: Job): number | null {
  return job.started_at === null || job.finished_at === null || job.state !== 'done'
    ? null
    : (job.finished_at - job.started_at) / 1000;
}

const COLUMNS = [
  { label: 'Row', className: 'shrink-0 w-12 text-right' },
  { label: 'Picture', className: 'shrink-0 w-10' },
  { label: 'Prompt', className: 'min-w-0 flex-1' },
  { label: 'Size', className: 'shrink-0 w-20 text-right max-lg:hidden' },
  { label: 'Seed', className: 'shrink-0 w-28 text-right max-lg:hidden' },
  { label: 'Time', className: 'shrink-0 w-16 text-right max-md:hidden' },
  { label: 'File', className: 'shrink-0 w-56 pl-4 max-xl:hidden' },
  { label: 'State', className: 'shrink-0 w-44 max-sm:w-28' },
] as const;

export function BatchTable({
  jobs,
  onRange,
  onOpen,
  onJob,
}: {
  jobs: Windowed<Job>;
  onRange(first: number, last: number): void;
  /** Opens the picture, or the job where there is none. */
  onOpen(job: Job): void;
  onJob(id: string): void;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: jobs.total,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 10,
  });
  const visible = rows.getVirtualItems();
  const first = visible[0]?.index ?? 0;
  const last = visible.at(-1)?.index ?? 20;
  useEffect(() => onRange(first, last), [first, last, onRange]);

  return (
    <div
      ref={scroller}
      role="table"
      aria-label="Rows of the list"
      aria-rowcount={jobs.total + 1}
      // Scrollable, so it has to be reachable by keyboard.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      className="h-full overflow-y-auto"
    >
      <div
        role="row"
        aria-rowindex={1}
        className="bg-ground border-line text-ink-3 sticky top-0 z-10 flex h-8 items-center gap-3 border-b px-4 text-xs font-medium"
      >
        {COLUMNS.map(({ label, className }) => (
          <span key={label} role="columnheader" className={className}>
            {label === 'Picture' ? <span className="sr-only">{label}</span> : label}
          </span>
        ))}
      </div>
      <div role="rowgroup" className="relative" style={{ height: rows.getTotalSize() }}>
        {visible.map(({ index, start }) => {
          const job = jobs.at(index);
          return (
            <div
              key={job?.id ?? `row-${index}`}
              role="row"
              aria-rowindex={index + 2}
              className="border-line/60 absolute inset-x-0 flex items-center gap-3 border-b px-4 text-sm"
              style={{ height: ROW, transform: `translateY(${start}px)` }}
            >
              {job ? (
                <Row
                  job={job}
                  number={rowNumber(job, index)}
                  onOpen={() => onOpen(job)}
                  onJob={() => onJob(job.id)}
                />
              ) : (
                <span role="cell" className="flex-1">
                  <Skeleton className="h-7" />
                </span>
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Row({
  job,
  number,
  onOpen,
  onJob,
}: {
  job: Job;
  number: string;
  onOpen(): void;
  onJob(): void;
}) {
  const retry = useCommand('jobs_retry');
  const clips = useClips();
  const { plan, failure } = job;
  const asset = job.assets[0];
  const seconds = workSeconds(job);
  const cells = [
    <span className="text-ink-3 tnum text-xs">{number}</span>,
    <div className="size-10">
      <JobTile job={job} isBare onOpen={onOpen} />
    </div>,
    <button
      type="button"
      title={plan.prompt}
      onClick={onJob}
      className="hover:text-lamp-ink block max-w-full truncate rounded-sm text-left"
    >
      {plan.prompt}
    </button>,
    `${plan.size.width} × ${plan.size.height}`,
    String(plan.seed),
    seconds === null ? '' : formatDuration(seconds),
    job.assets[0] ? `${plan.output.stem}.${plan.output.format}` : '',
    <State job={job} />,
  ];
  return (
    <>
      {COLUMNS.map(({ label, className }, at) => (
        <div
          key={label}
          role="cell"
          className={cx(
            'tnum text-ink-2 truncate',
            label === 'Prompt' && 'text-ink',
            // The end of a path says which file it is.
            label === 'File' && 'text-ink-3 font-mono text-xs [direction:rtl] text-left',
            label === 'State' && 'flex items-center gap-2',
            className,
          )}
        >
          {label === 'File' ? <bdi>{cells[at]}</bdi> : cells[at]}
          {label === 'State' && asset && plan.draft && (
            <IconButton
              size="sm"
              label={`Make row ${number} full`}
              onClick={() => clips.makeFull([asset], Boolean(plan.video))}
            >
              <Sparkles size={14} aria-hidden="true" />
            </IconButton>
          )}
          {label === 'State' && asset && !plan.video && clips.canAnimate && (
            <IconButton
              size="sm"
              label={`Make row ${number} move`}
              onClick={() => clips.animate([`asset:${asset}`])}
            >
              <Clapperboard size={14} aria-hidden="true" />
            </IconButton>
          )}
          {label === 'State' && failure && (
            <IconButton
              size="sm"
              label={describeFix(failure.fix) ?? 'Retry'}
              onClick={() =>
                retry.mutate(
                  { id: job.id, with_fix: failure.fix?.kind === 'resize' },
                  { onError: toastError },
                )
              }
            >
              <RotateCw size={14} aria-hidden="true" />
            </IconButton>
          )}
        </div>
      ))}
    </>
  );
}

function State({ job }: { job: Job }) {
  if (job.state === 'running') return <JobProgress job={job} className="min-w-0 flex-1" />;
  if (job.state === 'queued') {
    return <span className="text-ink-3 truncate text-xs">{describeWait(job.waiting)}</span>;
  }
  return (
    <Badge tone={STATE_TONE[job.state]}>
      {job.failure ? (
        <>
          <span className="max-sm:hidden">{describeCode(job.failure.code)}</span>
          <span className="sm:hidden">{STATE_LABEL.failed}</span>
        </>
      ) : (
        STATE_LABEL[job.state]
      )}
    </Badge>
  );
}
