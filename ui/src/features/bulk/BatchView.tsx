// A list that was run, live: as a contact sheet, or row by row.
import { ArrowLeft, LayoutGrid, Rows3 } from 'lucide-react';
import { useCallback, useState } from 'react';
import { Link } from 'react-router';

import { useBatch, useJobWindow } from '@/api/queries';
import type { Job, JobState } from '@/api/types';
import { CountsBar } from '@/components/domain/CountsBar';
import { JobTile } from '@/components/domain/JobTile';
import { EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Segmented } from '@/components/ui/Segmented';
import { VirtualGrid } from '@/components/VirtualGrid';
import { formatCount, formatDuration, formatWhen } from '@/lib/format';
import { listOfIds, useOverlay } from '@/lib/overlay';
import { batchViewStore, type BatchLook } from '@/lib/preferences';
import { useStore } from '@/lib/store';
import { BatchActions, countOpen } from './BatchActions';
import { BatchTable, rowNumber } from './BatchTable';

type Filter = 'all' | 'done' | 'failed' | 'waiting';

const STATES: Record<Filter, JobState[] | undefined> = {
  all: undefined,
  done: ['done'],
  failed: ['failed'],
  waiting: ['queued', 'paused', 'running'],
};

export function BatchView({ id }: { id: string }) {
  const { data: batch, error, refetch } = useBatch(id);
  const [filter, setFilter] = useState<Filter>('all');
  const [range, setRange] = useState({ first: 0, last: 40 });
  const look = useStore(batchViewStore);
  const onRange = useCallback((first: number, last: number) => setRange({ first, last }), []);
  const jobs = useJobWindow({ batch: id, states: STATES[filter] }, range.first, range.last);
  const { openAsset, openJob } = useOverlay();

  // Next and previous in the viewer lead through the pictures of the rows that are loaded.
  const open = (job: Job) => {
    const asset = job.assets[0];
    if (!asset) return openJob(job.id);
    const ids: string[] = [];
    for (let at = range.first; at <= range.last; at += 1) {
      const id = jobs.at(at)?.assets[0];
      if (id) ids.push(id);
    }
    openAsset(asset, listOfIds(ids, ids.indexOf(asset)));
  };

  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} className="m-6" />;
  const counts = batch?.counts;
  const left = counts ? countOpen(counts) : 0;
  const total = counts ? Object.values(counts).reduce((sum, count) => sum + count, 0) : 0;

  return (
    <div className="flex h-full min-h-0 flex-col">
      <header className="border-line flex flex-col gap-2.5 border-b px-4 pt-3 pb-3">
        <div className="flex flex-wrap items-center gap-2">
          <Link
            to="/bulk"
            aria-label="Back to the editor"
            className="text-ink-2 hover:bg-hover hover:text-ink -ml-1 grid size-9 place-items-center rounded-md"
          >
            <ArrowLeft size={18} aria-hidden="true" />
          </Link>
          <div className="mr-auto min-w-0">
            <h1 className="truncate text-xl font-semibold tracking-tight">
              {batch?.title ?? 'List'}
            </h1>
          </div>
          <BatchActions id={id} counts={counts} />
        </div>
        {counts ? (
          <>
            <CountsBar counts={counts} />
            <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
              <Segmented<Filter>
                label="Rows to show"
                value={filter}
                options={[
                  { value: 'all', label: 'All', count: total },
                  { value: 'done', label: 'Done', count: counts.done },
                  { value: 'failed', label: 'Failed', count: counts.failed },
                  { value: 'waiting', label: 'To do', count: left },
                ]}
                onValue={setFilter}
              />
              <Segmented<BatchLook>
                label="Show the rows as"
                className="order-last ml-auto"
                value={look}
                options={[
                  {
                    value: 'sheet',
                    label: <LayoutGrid size={15} aria-hidden="true" />,
                    name: 'Contact sheet',
                  },
                  { value: 'table', label: <Rows3 size={15} aria-hidden="true" />, name: 'Table' },
                ]}
                onValue={(next) => batchViewStore.set(next)}
              />
              <p className="text-ink-2 tnum text-sm" aria-live="polite">
                {left > 0
                  ? `${formatCount(counts.done)} of ${formatCount(total)} done${
                      batch?.eta_seconds != null
                        ? ` · about ${formatDuration(batch.eta_seconds)} left`
                        : ''
                    }`
                  : `Finished · ${batch ? formatWhen(batch.created_at) : ''}`}
              </p>
            </div>
          </>
        ) : (
          <Skeleton className="h-10" />
        )}
      </header>
      <div className="min-h-0 flex-1">
        {jobs.error ? (
          <ErrorNotice error={jobs.error} onRetry={jobs.refetch} className="m-4" />
        ) : !jobs.isLoading && jobs.total === 0 ? (
          <EmptyState className="h-full" title="No rows here">
            {filter === 'failed'
              ? 'Nothing failed.'
              : 'Choose another filter to see the other rows.'}
          </EmptyState>
        ) : look === 'table' ? (
          <BatchTable jobs={jobs} onRange={onRange} onOpen={open} onJob={openJob} />
        ) : (
          <VirtualGrid
            total={jobs.total}
            itemSize={132}
            gap={6}
            onRange={onRange}
            aria-label="Contact sheet"
            role="group"
            item={(index) => {
              const job = jobs.at(index);
              if (!job) return <Skeleton className="size-full" />;
              return <JobTile job={job} caption={rowNumber(job, index)} onOpen={() => open(job)} />;
            }}
          />
        )}
      </div>
    </div>
  );
}
