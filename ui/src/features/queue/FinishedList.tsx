// What is over: pictures, failures with what would help, and what was cancelled.
import { useVirtualizer } from '@tanstack/react-virtual';
import { CircleAlert, Repeat2, RotateCw, Wrench, X } from 'lucide-react';
import { useRef, useState } from 'react';

import { useCommand } from '@/api/client';
import { useJobWindow } from '@/api/queries';
import type { Job, JobState } from '@/api/types';
import {
  describeCode,
  describeFix,
  describePlan,
  STATE_LABEL,
  STATE_TONE,
} from '@/components/domain/job-text';
import { JobTile } from '@/components/domain/JobTile';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Badge, EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { settingsOf } from '@/api/settings-of';
import { loadSettings } from '@/lib/draft';
import { formatDuration, formatWhen } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';
import { useNavigate } from 'react-router';

const ROW = 72;

export function FinishedList({ states }: { states: JobState[] }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [total, setTotal] = useState(0);
  const rows = useVirtualizer({
    count: total,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 8,
  });
  const visible = rows.getVirtualItems();
  const list = useJobWindow({ states }, visible[0]?.index ?? 0, visible.at(-1)?.index ?? 20);
  if (list.total !== total) setTotal(list.total);

  const isFailed = states.includes('failed');
  if (list.error) return <ErrorNotice error={list.error} onRetry={list.refetch} className="m-4" />;
  if (!list.isLoading && total === 0) {
    return (
      <EmptyState className="h-full" title={isFailed ? 'Nothing failed' : 'Nothing finished yet'}>
        {isFailed
          ? 'When a job fails, it says here what happened and what helps.'
          : 'Finished jobs stay here until you clear them. Their pictures are in the gallery.'}
      </EmptyState>
    );
  }
  return (
    <div ref={scroller} className="h-full overflow-y-auto">
      <ul
        aria-label={isFailed ? 'Failed jobs' : 'Finished jobs'}
        className="relative mx-auto max-w-6xl"
        style={{ height: rows.getTotalSize() }}
      >
        {visible.map(({ index, start }) => {
          const job = list.at(index);
          return (
            <li
              key={job?.id ?? `row-${index}`}
              className="border-line/60 absolute inset-x-0 flex items-center gap-3 border-b px-4"
              style={{ height: ROW, transform: `translateY(${start}px)` }}
            >
              {job ? <FinishedRow job={job} /> : <Skeleton className="h-12 flex-1" />}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function FinishedRow({ job }: { job: Job }) {
  const { openAsset, openJob } = useOverlay();
  const navigate = useNavigate();
  const retry = useCommand('jobs_retry');
  const remove = useCommand('jobs_remove');
  const asset = job.assets[0];
  const { failure } = job;
  const fix = failure && describeFix(failure.fix);
  const changesPlan = failure?.fix?.kind === 'resize';
  const seconds =
    job.finished_at !== null && job.started_at !== null
      ? (job.finished_at - job.started_at) / 1000
      : null;

  return (
    <>
      <div className="size-14 shrink-0">
        {failure ? (
          <span className="bg-bad-wash text-bad grid size-full place-items-center rounded-md">
            <CircleAlert size={20} aria-hidden="true" />
          </span>
        ) : (
          <JobTile job={job} onOpen={() => (asset ? openAsset(asset) : openJob(job.id))} />
        )}
      </div>
      <button
        type="button"
        onClick={() => openJob(job.id)}
        className="min-w-0 flex-1 rounded-md py-1 text-left"
      >
        <span className="block truncate">{job.plan.prompt}</span>
        {failure ? (
          <span className="block truncate text-xs">
            <span className="text-bad font-medium">{describeCode(failure.code)}.</span>{' '}
            <span className="text-ink-2">{failure.hint}</span>
          </span>
        ) : (
          <span className="text-ink-3 tnum block truncate text-xs">
            {seconds !== null && `${formatDuration(seconds)} · `}
            {describePlan(job)}
          </span>
        )}
      </button>
      <span className="text-ink-3 tnum hidden shrink-0 text-xs md:block">
        {job.finished_at !== null && formatWhen(job.finished_at)}
      </span>
      {job.state !== 'done' && !failure && (
        <Badge tone={STATE_TONE[job.state]}>{STATE_LABEL[job.state]}</Badge>
      )}
      {failure ? (
        <Button
          size="sm"
          icon={
            changesPlan ? (
              <Wrench size={14} aria-hidden="true" />
            ) : (
              <RotateCw size={14} aria-hidden="true" />
            )
          }
          onClick={() =>
            retry.mutate({ id: job.id, with_fix: changesPlan }, { onError: toastError })
          }
        >
          <span className="max-sm:sr-only">{fix ?? 'Retry'}</span>
        </Button>
      ) : (
        <IconButton
          size="sm"
          label="Use these settings again"
          onClick={() => {
            loadSettings(settingsOf(job.plan));
            void navigate('/create');
          }}
        >
          <Repeat2 size={16} aria-hidden="true" />
        </IconButton>
      )}
      <IconButton
        size="sm"
        label={failure ? 'Dismiss' : 'Forget this job; its picture stays'}
        onClick={() => remove.mutate({ id: job.id }, { onError: toastError })}
      >
        <X size={16} aria-hidden="true" />
      </IconButton>
    </>
  );
}
