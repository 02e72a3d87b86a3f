// This run's pictures and the ones before, small, newest first.
import { useRef } from 'react';

import { thumbnailUrl } from '@/api/media';
import type { AssetFilter } from '@/api/keys';
import { useAssetWindow } from '@/api/queries';
import type { Asset, Job } from '@/api/types';
import { JobTile } from '@/components/domain/JobTile';
import { cx } from '@/lib/cx';

const SHOWN = 40;

export function ResultsStrip({
  filter,
  jobs,
  batch,
  currentJob,
  currentAsset,
  onJob,
  onAsset,
}: {
  /** Which earlier results are shown. */
  filter: AssetFilter;
  /** The jobs of the run on the stage. */
  jobs: Job[];
  batch: string | undefined;
  currentJob: string | undefined;
  currentAsset: string | undefined;
  onJob(job: Job): void;
  onAsset(asset: Asset): void;
}) {
  const list = useAssetWindow(filter, 0, SHOWN - 1);
  const strip = useRef<HTMLUListElement>(null);
  const earlier = Array.from({ length: Math.min(SHOWN, list.total) }, (_, i) => list.at(i)).filter(
    (asset): asset is Asset => asset !== undefined && (!batch || asset.batch !== batch),
  );
  if (!jobs.length && !earlier.length) return null;
  return (
    <div className="bg-ground border-line shrink-0 border-t">
      <ul
        ref={strip}
        aria-label="Results"
        className="flex h-24 items-center gap-2 overflow-x-auto overflow-y-hidden px-4"
      >
        {jobs.map((job) => (
          <li key={job.id} className="size-18 shrink-0">
            <JobTile job={job} isCurrent={job.id === currentJob} onOpen={() => onJob(job)} />
          </li>
        ))}
        {jobs.length > 0 && earlier.length > 0 && (
          <li aria-hidden="true" className="bg-line mx-1 h-14 w-px shrink-0" />
        )}
        {earlier.map((asset) => (
          <li key={asset.id} className="size-18 shrink-0">
            <button
              type="button"
              aria-label={asset.recipe.plan.prompt}
              aria-current={asset.id === currentAsset || undefined}
              onClick={() => onAsset(asset)}
              className={cx(
                'picture-ground block size-full overflow-hidden rounded-md',
                asset.id === currentAsset && 'ring-lamp ring-2',
              )}
            >
              <img
                src={thumbnailUrl(asset.id)}
                alt=""
                loading="lazy"
                decoding="async"
                draggable={false}
                className="size-full object-cover"
              />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
