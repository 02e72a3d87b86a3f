// Create: the form, the stage, and the strip of results.
import { useEffect, useState } from 'react';

import { useAssetWindow, useJobWindow } from '@/api/queries';
import type { Job } from '@/api/types';
import { cx } from '@/lib/cx';
import { useStore } from '@/lib/store';
import { CreateForm } from './CreateForm';
import { followedStore } from './followed';
import { ResultsStrip } from './ResultsStrip';
import { AssetStage, EmptyStage, JobStage } from './Stage';

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

export default function CreatePage() {
  const followed = useStore(followedStore);
  const [asset, setAsset] = useState<string | null>(null);

  // A new run takes the stage.
  const batch = followed?.batch;
  const [shownBatch, setShownBatch] = useState(batch);
  if (batch !== shownBatch) {
    setShownBatch(batch);
    setAsset(null);
  }

  const run = useJobWindow({ batch: batch ?? 'none' }, 0, MOST_JOBS - 1);
  const jobs = batch
    ? Array.from({ length: Math.min(MOST_JOBS, run.total) }, (_, i) => run.at(i)).filter(
        (job): job is Job => job !== undefined && job.batch === batch,
      )
    : [];
  const job = pickJob(jobs, followed?.job ?? null);

  // With nothing followed, whatever the machine is painting is what one wants to see.
  const running = useJobWindow({ states: ['running'] }, 0, 0).at(0);
  const isGone = batch !== undefined && !run.isLoading && !run.isPrevious && !jobs.length;
  useEffect(() => {
    if ((!batch || isGone) && running?.batch)
      followedStore.set({ batch: running.batch, job: null });
    else if (isGone) followedStore.set(null);
  }, [batch, isGone, running?.batch]);

  const newest = useAssetWindow({}, 0, 0);
  const fallback = newest.at(0)?.id;

  return (
    <div className="grid min-h-full grid-rows-[auto_auto] max-lg:h-full max-lg:overflow-y-auto lg:h-full lg:grid-cols-[360px_minmax(0,1fr)] lg:grid-rows-1 xl:grid-cols-[392px_minmax(0,1fr)]">
      <h1 className="sr-only">Create</h1>
      <div className="bg-panel border-line order-2 flex flex-col lg:order-1 lg:min-h-0 lg:border-r [&>form]:flex-1">
        <CreateForm />
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
          <JobStage job={job} onRetried={(next) => followedStore.set({ batch: next, job: null })} />
        ) : fallback ? (
          <AssetStage id={fallback} />
        ) : (
          <EmptyStage />
        )}
        <ResultsStrip
          jobs={jobs}
          batch={batch}
          currentJob={asset ? undefined : job?.id}
          currentAsset={asset ?? (job ? undefined : fallback)}
          onJob={(next) => {
            setAsset(null);
            if (next.batch) followedStore.set({ batch: next.batch, job: next.id });
          }}
          onAsset={(next) => setAsset(next.id)}
        />
      </section>
    </div>
  );
}
