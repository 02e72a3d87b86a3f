// What the machine is doing: a light in the header, and behind it the running jobs.
import { Pause, Play, X } from 'lucide-react';
import { Popover } from 'radix-ui';
import { useState } from 'react';
import { Link } from 'react-router';

import { useCommand } from '@/api/client';
import { useJobWindow, useQueue } from '@/api/queries';
import { useProgress } from '@/api/progress';
import type { Job } from '@/api/types';
import { JobProgress } from '@/components/domain/JobProgress';
import { JobTile } from '@/components/domain/JobTile';
import { toastError } from '@/components/toast';
import { IconButton } from '@/components/ui/Button';
import { focusContent } from '@/components/ui/Dialog';
import { cx } from '@/lib/cx';
import { formatCount, formatDuration, plural } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';

function Ring({ job }: { job: Job | undefined }) {
  const progress = useProgress(job?.id, job?.progress);
  const around = 2 * Math.PI * 7;
  return (
    <svg viewBox="0 0 18 18" width="18" height="18" aria-hidden="true" className="-rotate-90">
      <circle cx="9" cy="9" r="7" fill="none" stroke="var(--line)" strokeWidth="2.5" />
      {job && (
        <circle
          cx="9"
          cy="9"
          r="7"
          fill="none"
          stroke="var(--lamp)"
          strokeWidth="2.5"
          strokeLinecap="round"
          strokeDasharray={around}
          strokeDashoffset={around * (1 - (progress?.fraction ?? 0))}
        />
      )}
    </svg>
  );
}

export function ActivityTray() {
  const [isOpen, setOpen] = useState(false);
  const { data: queue } = useQueue();
  const running = useJobWindow({ states: ['running'] }, 0, 7);
  const { openJob } = useOverlay();
  const cancel = useCommand('jobs_cancel');
  const pause = useCommand('queue_pause');
  const resume = useCommand('queue_resume');

  const jobs = Array.from({ length: Math.min(8, running.total) }, (_, i) => running.at(i)).filter(
    (job): job is Job => job?.state === 'running',
  );
  const waiting = queue?.counts.queued ?? 0;
  const open = waiting + (queue?.counts.running ?? 0);
  const text = queue?.is_paused
    ? open
      ? `Paused · ${formatCount(open)}`
      : 'Paused'
    : open
      ? formatCount(open)
      : 'Idle';
  const spoken = queue?.is_paused
    ? `Queue paused, ${plural(open, 'job')}`
    : open
      ? `${plural(open, 'job')} in the queue`
      : 'Nothing is running';

  return (
    <Popover.Root open={isOpen} onOpenChange={setOpen}>
      <Popover.Trigger
        aria-label={`Activity: ${spoken}`}
        className={cx(
          'hover:bg-raised flex h-9 items-center gap-2 rounded-md px-2.5 text-sm font-medium',
          queue?.is_paused ? 'text-warn' : open ? 'text-ink' : 'text-ink-3',
        )}
      >
        {queue?.is_paused ? <Pause size={16} aria-hidden="true" /> : <Ring job={jobs[0]} />}
        <span className="tnum">{text}</span>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="end"
          sideOffset={6}
          collisionPadding={8}
          aria-label="Activity"
          onOpenAutoFocus={focusContent}
          className="shadow-float animate-appear bg-panel z-40 flex outline-none max-h-[70vh] w-96 max-w-[94vw] flex-col rounded-lg"
        >
          <div className="border-line flex items-center gap-2 border-b px-4 py-2.5">
            <div className="min-w-0 flex-1">
              <p className="font-semibold">{spoken}</p>
              {queue?.eta_seconds != null && open > 0 && !queue.is_paused && (
                <p className="text-ink-2 tnum text-xs">
                  all done in about {formatDuration(queue.eta_seconds)}
                </p>
              )}
            </div>
            <IconButton
              size="sm"
              label={queue?.is_paused ? 'Resume the queue' : 'Pause the queue'}
              onClick={() =>
                (queue?.is_paused ? resume : pause).mutate({}, { onError: toastError })
              }
            >
              {queue?.is_paused ? (
                <Play size={16} aria-hidden="true" />
              ) : (
                <Pause size={16} aria-hidden="true" />
              )}
            </IconButton>
          </div>
          <ul className="min-h-0 flex-1 overflow-y-auto p-2">
            {jobs.map((job) => (
              <li key={job.id} className="hover:bg-raised flex items-center gap-3 rounded-md p-2">
                <div className="size-12 shrink-0">
                  <JobTile
                    job={job}
                    onOpen={() => {
                      setOpen(false);
                      openJob(job.id);
                    }}
                  />
                </div>
                <div className="min-w-0 flex-1">
                  <p className="truncate text-sm">{job.plan.prompt}</p>
                  <JobProgress job={job} className="mt-1" />
                </div>
                <IconButton
                  size="sm"
                  label="Cancel this job"
                  disabled={job.is_cancelling}
                  onClick={() => cancel.mutate({ id: job.id }, { onError: toastError })}
                >
                  <X size={16} aria-hidden="true" />
                </IconButton>
              </li>
            ))}
            {!jobs.length && (
              <li className="text-ink-2 px-2 py-6 text-center text-sm">
                {queue?.is_paused && open
                  ? 'Resume the queue and it goes on where it stopped.'
                  : 'Jobs show up here while they run.'}
              </li>
            )}
          </ul>
          <div className="border-line border-t p-2">
            <Link
              to="/queue"
              onClick={() => setOpen(false)}
              className="text-ink-2 hover:bg-hover hover:text-ink block rounded-md py-1.5 text-center text-sm font-medium"
            >
              Open the queue
            </Link>
          </div>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
