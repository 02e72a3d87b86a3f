// What waits, in the order in which it will run.
import { useVirtualizer } from '@tanstack/react-virtual';
import {
  ArrowDown,
  ArrowDownToLine,
  ArrowUp,
  ArrowUpToLine,
  Ellipsis,
  GripVertical,
  Pause,
  Play,
  X,
} from 'lucide-react';
import { useRef, useState } from 'react';

import { useCommand } from '@/api/client';
import { useJobWindow } from '@/api/queries';
import type { Job } from '@/api/types';
import { describePlan, describeWait } from '@/components/domain/job-text';
import { QueueIcon } from '@/components/icons';
import { toastError } from '@/components/toast';
import { IconButton } from '@/components/ui/Button';
import { Badge, EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Menu } from '@/components/ui/Menu';
import { cx } from '@/lib/cx';
import { formatCount } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';
import { useDragOrder } from './use-drag-order';

const ROW = 60;

export function WaitingList() {
  const scroller = useRef<HTMLDivElement>(null);
  const [total, setTotal] = useState(0);
  const [said, setSaid] = useState('');
  const rows = useVirtualizer({
    count: total,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 8,
  });
  const visible = rows.getVirtualItems();
  const list = useJobWindow(
    { states: ['queued', 'paused'] },
    visible[0]?.index ?? 0,
    visible.at(-1)?.index ?? 20,
  );
  if (list.total !== total) setTotal(list.total);

  const move = useCommand('jobs_move');
  const pause = useCommand('jobs_pause');
  const resume = useCommand('jobs_resume');
  const cancel = useCommand('jobs_cancel');
  const { openJob } = useOverlay();

  /** Puts a job before the row `to`; `total` is the end. */
  const place = (id: string, to: number) => {
    const before = to >= total ? null : list.at(to)?.id;
    if (before === undefined || before === id) return;
    move.mutate(
      { id, before },
      {
        onSuccess: () => setSaid(`Moved to place ${Math.min(total, to + 1)} of ${total}.`),
        onError: toastError,
      },
    );
  };
  const { drag, start } = useDragOrder({
    scroller,
    rowHeight: ROW,
    total,
    onDrop: (id, _from, to) => place(id, to),
  });

  const nudge = (job: Job, index: number, direction: 1 | -1) => {
    const to = direction < 0 ? index - 1 : index + 2;
    if (to < 0 || index + direction >= total) return;
    place(job.id, to);
  };

  if (list.error) return <ErrorNotice error={list.error} onRetry={list.refetch} className="m-4" />;
  if (!list.isLoading && total === 0) {
    return (
      <EmptyState className="h-full" icon={<QueueIcon size={36} />} title="Nothing waits">
        What you generate runs here one after the other, single pictures before lists.
      </EmptyState>
    );
  }
  return (
    <>
      <p className="sr-only" aria-live="polite">
        {said}
      </p>
      <div ref={scroller} className="h-full overflow-y-auto">
        <ul
          aria-label="Waiting jobs"
          className="relative mx-auto max-w-6xl"
          style={{ height: rows.getTotalSize() }}
        >
          {visible.map(({ index, start: top }) => {
            const job = list.at(index);
            return (
              <li
                key={job?.id ?? `row-${index}`}
                className={cx(
                  'group border-line/60 absolute inset-x-0 flex items-center gap-2 border-b px-2 md:px-4',
                  drag?.id === job?.id && job && 'bg-raised opacity-60',
                )}
                style={{ height: ROW, transform: `translateY(${top}px)` }}
              >
                {job ? (
                  <>
                    <button
                      type="button"
                      aria-label={`Move job ${index + 1}: ${job.plan.prompt}. Drag, or press Alt with the up or down arrow.`}
                      onPointerDown={(event) => start(event, job.id, index)}
                      onKeyDown={(event) => {
                        if (!event.altKey) return;
                        if (event.key !== 'ArrowUp' && event.key !== 'ArrowDown') return;
                        event.preventDefault();
                        nudge(job, index, event.key === 'ArrowUp' ? -1 : 1);
                      }}
                      className="text-ink-3 hover:bg-hover hover:text-ink grid h-9 w-6 shrink-0 cursor-grab touch-none place-items-center rounded-sm active:cursor-grabbing"
                    >
                      <GripVertical size={16} aria-hidden="true" />
                    </button>
                    <span className="text-ink-3 tnum w-9 shrink-0 text-right text-xs">
                      {formatCount(index + 1)}
                    </span>
                    <button
                      type="button"
                      onClick={() => openJob(job.id)}
                      className="min-w-0 flex-1 rounded-md px-2 py-1 text-left"
                    >
                      <span className="block truncate">{job.plan.prompt}</span>
                      <span className="text-ink-3 tnum block truncate text-xs">
                        {job.state === 'paused' ? 'Paused' : describeWait(job.waiting)} ·{' '}
                        {describePlan(job)}
                      </span>
                    </button>
                    {job.state === 'paused' && <Badge tone="warn">Paused</Badge>}
                    {job.priority === 'urgent' && <Badge tone="lamp">First</Badge>}
                    {job.priority === 'bulk' && <Badge className="max-sm:hidden">List</Badge>}
                    <IconButton
                      size="sm"
                      className="max-sm:hidden"
                      label={job.state === 'paused' ? 'Resume this job' : 'Set this job aside'}
                      onClick={() =>
                        (job.state === 'paused' ? resume : pause).mutate(
                          { id: job.id },
                          { onError: toastError },
                        )
                      }
                    >
                      {job.state === 'paused' ? (
                        <Play size={15} aria-hidden="true" />
                      ) : (
                        <Pause size={15} aria-hidden="true" />
                      )}
                    </IconButton>
                    <IconButton
                      size="sm"
                      label="Cancel this job"
                      onClick={() => cancel.mutate({ id: job.id }, { onError: toastError })}
                    >
                      <X size={16} aria-hidden="true" />
                    </IconButton>
                    <Menu
                      trigger={
                        <IconButton size="sm" label="More for this job">
                          <Ellipsis size={16} aria-hidden="true" />
                        </IconButton>
                      }
                      actions={[
                        {
                          label: 'To the front',
                          icon: <ArrowUpToLine size={15} />,
                          isDisabled: index === 0,
                          onSelect: () => place(job.id, 0),
                        },
                        {
                          label: 'One up',
                          icon: <ArrowUp size={15} />,
                          chord: 'alt+arrowup',
                          isDisabled: index === 0,
                          onSelect: () => nudge(job, index, -1),
                        },
                        {
                          label: 'One down',
                          icon: <ArrowDown size={15} />,
                          chord: 'alt+arrowdown',
                          isDisabled: index === total - 1,
                          onSelect: () => nudge(job, index, 1),
                        },
                        {
                          label: 'To the end',
                          icon: <ArrowDownToLine size={15} />,
                          isDisabled: index === total - 1,
                          onSelect: () => place(job.id, total),
                        },
                        null,
                        job.state === 'paused'
                          ? {
                              label: 'Resume',
                              icon: <Play size={15} />,
                              onSelect: () =>
                                resume.mutate({ id: job.id }, { onError: toastError }),
                            }
                          : {
                              label: 'Set aside',
                              icon: <Pause size={15} />,
                              onSelect: () => pause.mutate({ id: job.id }, { onError: toastError }),
                            },
                      ]}
                    />
                  </>
                ) : (
                  <Skeleton className="h-9 flex-1" />
                )}
              </li>
            );
          })}
          {drag && (
            <li
              aria-hidden="true"
              className="bg-lamp pointer-events-none absolute inset-x-3 h-0.5 rounded-full"
              style={{ top: drag.to * ROW - 1 }}
            />
          )}
        </ul>
      </div>
    </>
  );
}
