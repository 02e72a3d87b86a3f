// A page on which things are made: the form, the stage, and the strip of results.
import { useEffect, useState, type ReactNode } from 'react';

import type { AssetFilter } from '@/api/keys';
import { useAssetWindow, useJobWindow } from '@/api/queries';
import type { Job } from '@/api/types';
import { cx } from '@/lib/cx';
import type { Followed } from '@/lib/followed';
import { useStore, type Store } from '@/lib/store';
import { ResultsStrip } from './ResultsStrip';
import { AssetStage, JobStage } from './Stage';

/** As many of a run as the strip holds. */
const MOST_JOBS = 60;

/** The job that a run is best shown by: what is running, else what failed to be seen, else the first. */
export function pickJob(jobs: Job[], wanted: string | null): Job | undefined {
  const chosen = jobs.find((job) => job.id === wanted);
  if (chosen) return chosen;
  return (
    jobs.find((job) => job.state === 'running') ??
    jobs.findLast((job) => job.state === 'done' || job.state === 'failed') ??
    jobs[0]
  );
}

interface StudioPageProps {
  title: string;
  form: ReactNode;
  /** The run on the stage. */
  store: Store<Followed | null>;
  /** Which earlier results there are to look at. */
  filter?: AssetFilter;
  /** Whether a job that nobody follows belongs here. */
  isOwn?(job: Job): boolean;
  /** What the stage shows while there is nothing to show. */
  empty: ReactNode;
}

const everything: AssetFilter = {};
const anyJob = () => true;

export function StudioPage({
  title,
  form,
  store,
  filter = everything,
  isOwn = anyJob,
  empty,
}: StudioPageProps) {
  const followed = useStore(store);
  const [asset, setAsset] = useState<string | null>(null);

  // A new run takes the stage.
  const batch = followed?.batch;
  const [shownBatch, setShownBatch] = useState(batch);
  if (batch !== shownBatch) {
    setShownBatch(batch);
    setAsset(null);
  }

  const run = useJobWindow(batch ? { batch } : null, 0, MOST_JOBS - 1);
  const jobs = batch
    ? Array.from({ length: Math.min(MOST_JOBS, run.total) }, (_, i) => run.at(i)).filter(
        (job): job is Job => job !== undefined && job.batch === batch,
      )
    : [];
  const job = pickJob(jobs, followed?.job ?? null);

  // With nothing followed, whatever the machine is painting is what one wants to see.
  const first = useJobWindow({ states: ['running'] }, 0, 0).at(0);
  const running = first && isOwn(first) ? first : undefined;
  const isGone = batch !== undefined && !run.isLoading && !run.isPrevious && !jobs.length;
  useEffect(() => {
    if ((!batch || isGone) && running?.batch) store.set({ batch: running.batch, job: null });
    else if (isGone) store.set(null);
  }, [batch, isGone, running?.batch, store]);

  const newest = useAssetWindow(filter, 0, 0);
  const fallback = newest.at(0)?.id;

  return (
    <div className="grid min-h-full grid-rows-[auto_auto] max-lg:h-full max-lg:overflow-y-auto lg:h-full lg:grid-cols-[360px_minmax(0,1fr)] lg:grid-rows-1 xl:grid-cols-[392px_minmax(0,1fr)]">
      <h1 className="sr-only">{title}</h1>
      <div className="bg-panel border-line order-2 flex flex-col lg:order-1 lg:min-h-0 lg:border-r [&>form]:flex-1">
        {form}
      </div>
      <section
        aria-label="Result"
        className={cx(
          'picture-ground order-1 flex min-h-0 min-w-0 flex-col lg:order-2 lg:h-full',
          // On a phone the form is below: the prompt has to be in sight.
          (asset || job || fallback) && 'max-lg:h-[48vh] max-lg:min-h-72',
        )}
      >
        {asset ? (
          <AssetStage id={asset} />
        ) : job ? (
          <JobStage job={job} onRetried={(next) => store.set({ batch: next, job: null })} />
        ) : fallback ? (
          <AssetStage id={fallback} />
        ) : (
          empty
        )}
        <ResultsStrip
          filter={filter}
          jobs={jobs}
          batch={batch}
          currentJob={asset ? undefined : job?.id}
          currentAsset={asset ?? (job ? undefined : fallback)}
          onJob={(next) => {
            setAsset(null);
            if (next.batch) store.set({ batch: next.batch, job: next.id });
          }}
          onAsset={(next) => setAsset(next.id)}
        />
      </section>
    </div>
  );
}
