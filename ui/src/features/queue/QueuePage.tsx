// Queue: what runs, what waits, what failed, what is finished.
import { Ban, Brush, Pause, Play, RotateCw } from 'lucide-react';
import { useState } from 'react';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { useJobWindow, useQueue } from '@/api/queries';
import type { Job } from '@/api/types';
import { describePlan } from '@/components/domain/job-text';
import { JobProgress } from '@/components/domain/JobProgress';
import { JobTile } from '@/components/domain/JobTile';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { Confirm } from '@/components/ui/Dialog';
import { Page } from '@/components/ui/Page';
import { Segmented } from '@/components/ui/Segmented';
import { formatCount, formatDuration, plural } from '@/lib/format';
import { useLinger } from '@/lib/hooks';
import { useOverlay } from '@/lib/overlay';
import { FinishedList } from './FinishedList';
import { WaitingList } from './WaitingList';

type View = 'waiting' | 'failed' | 'finished';

export default function QueuePage() {
  const { data: queue } = useQueue();
  const [view, setView] = useState<View>('waiting');
  const [isAsking, setAsking] = useState(false);
  const pause = useCommand('queue_pause');
  const resume = useCommand('queue_resume');
  const cancelAll = useCommand('queue_cancel_all');
  const retryFailed = useCommand('queue_retry_failed');
  const clear = useCommand('queue_clear_finished');

  const counts = queue?.counts;
  const waiting = (counts?.queued ?? 0) + (counts?.paused ?? 0);
  const open = waiting + (counts?.running ?? 0);
  const finished = (counts?.done ?? 0) + (counts?.cancelled ?? 0);

  return (
    <Page
      title="Queue"
      about={
        <span className="tnum" aria-live="polite">
          {queue?.is_paused
            ? 'Paused: nothing new starts until you resume it.'
            : open
              ? `${plural(open, 'job')}${queue?.eta_seconds != null ? `, done in about ${formatDuration(queue.eta_seconds)}` : ''}`
              : 'Idle'}
        </span>
      }
      actions={
        <>
          {queue?.is_paused ? (
            <Button
              variant="primary"
              icon={<Play size={16} aria-hidden="true" />}
              onClick={() => resume.mutate({}, { onError: toastError })}
            >
              Resume the queue
            </Button>
          ) : (
            <Button
              icon={<Pause size={16} aria-hidden="true" />}
              onClick={() => pause.mutate({}, { onError: toastError })}
            >
              Pause the queue
            </Button>
          )}
          <Button
            icon={<Ban size={16} aria-hidden="true" />}
            disabled={!open}
            onClick={() => setAsking(true)}
          >
            Cancel all
          </Button>
        </>
      }
      // On a low screen, or with large type, the page scrolls instead of squeezing its list.
      className="flex flex-col short:overflow-y-auto"
    >
      <Running />
      <div className="border-line flex flex-wrap items-center justify-between gap-2 border-b px-4 py-2 md:px-6">
        <Segmented<View>
          label="Jobs to show"
          value={view}
          options={[
            { value: 'waiting', label: 'Waiting', count: waiting },
            { value: 'failed', label: 'Failed', count: counts?.failed ?? 0 },
            { value: 'finished', label: 'Finished', count: finished },
          ]}
          onValue={setView}
        />
        <div className="flex gap-2">
          {view === 'failed' && (counts?.failed ?? 0) > 0 && (
            <Button
              size="sm"
              isBusy={retryFailed.isPending}
              icon={<RotateCw size={14} aria-hidden="true" />}
              onClick={() =>
                retryFailed.mutate(
                  { with_fix: true },
                  {
                    onSuccess: ({ jobs }) => toast.success(`${plural(jobs, 'job')} queued again.`),
                    onError: toastError,
                  },
                )
              }
            >
              Retry all, with the fix that fits
            </Button>
          )}
          {view === 'finished' && finished > 0 && (
            <Button
              size="sm"
              isBusy={clear.isPending}
              icon={<Brush size={14} aria-hidden="true" />}
              onClick={() =>
                clear.mutate(
                  {},
                  {
                    onSuccess: ({ jobs }) =>
                      toast.success(`${plural(jobs, 'job')} cleared. The pictures stay.`),
                    onError: toastError,
                  },
                )
              }
            >
              Clear finished
            </Button>
          )}
        </div>
      </div>
      <div className="min-h-0 flex-1 short:min-h-64 short:shrink-0">
        {view === 'waiting' && <WaitingList />}
        {view === 'failed' && <FinishedList key="failed" states={['failed']} />}
        {view === 'finished' && <FinishedList key="finished" states={['done', 'cancelled']} />}
      </div>
      <Confirm
        isOpen={isAsking}
        onOpen={setAsking}
        title={`Cancel ${plural(open, 'job')}?`}
        action={`Cancel ${formatCount(open)}`}
        onConfirm={() =>
          cancelAll.mutate(
            {},
            {
              onSuccess: ({ jobs }) => toast.success(`${plural(jobs, 'job')} cancelled.`),
              onError: toastError,
            },
          )
        }
      >
        Everything that waits is dropped, and what runs stops at its next step. Finished pictures
        stay.
      </Confirm>
    </Page>
  );
}

/** How long the last job stays on screen before the room is called empty. */
const LINGER_MS = 900;

function Running() {
  const list = useJobWindow({ states: ['running'] }, 0, 11);
  const { openJob } = useOverlay();
  const cancel = useCommand('jobs_cancel');
  const pause = useCommand('jobs_pause');
  const running = Array.from({ length: Math.min(12, list.total) }, (_, i) => list.at(i)).filter(
    (job): job is Job => job?.state === 'running',
  );
  const jobs = useLinger(running, running.map((job) => job.id).join(), LINGER_MS);
  const isOver = !running.length;
  return (
    // The room stays when nothing runs, so that the list below does not jump from job to job.
    <section aria-label="Running" className="px-4 pb-3 md:px-6">
      <ul className="flex min-h-24 flex-col gap-2">
        {jobs.map((job) => (
          <li
            key={job.id}
            className="bg-panel border-line flex items-center gap-3 rounded-lg border p-3 max-sm:flex-wrap md:gap-4"
          >
            <div className="size-18 shrink-0">
              <JobTile job={job} size={512} onOpen={() => openJob(job.id)} />
            </div>
            <div className="min-w-0 flex-1">
              <button
                type="button"
                onClick={() => openJob(job.id)}
                className="block max-w-full truncate rounded-sm text-left font-medium"
              >
                {job.plan.prompt}
              </button>
              <p className="text-ink-3 tnum truncate text-xs">{describePlan(job)}</p>
              <JobProgress job={job} isOver={isOver} className="mt-2" />
            </div>
            <div className="flex shrink-0 justify-end gap-2 max-sm:basis-full">
              <Button
                size="sm"
                disabled={job.is_cancelling || isOver}
                onClick={() => pause.mutate({ id: job.id }, { onError: toastError })}
              >
                Set aside
              </Button>
              <Button
                size="sm"
                disabled={job.is_cancelling || isOver}
                onClick={() => cancel.mutate({ id: job.id }, { onError: toastError })}
              >
                {job.is_cancelling ? 'Cancelling' : 'Cancel'}
              </Button>
            </div>
          </li>
        ))}
        {!jobs.length && (
          <li className="border-line text-ink-3 grid min-h-24 place-items-center rounded-lg border border-dashed text-sm">
            Nothing runs at the moment
          </li>
        )}
      </ul>
    </section>
  );
}
