// One job as a picture-sized tile: its picture when done, its preview while running, else its state.
import { Ban, CircleAlert, Pause } from 'lucide-react';

import { thumbnailUrl } from '@/api/media';
import type { Job } from '@/api/types';
import { cx } from '@/lib/cx';
import { JobPreview, JobProgress } from './JobProgress';
import { STATE_LABEL, describeCode } from './job-text';

export function JobTile({
  job,
  size = 256,
  caption,
  onOpen,
  isCurrent,
  isBare,
  className,
}: {
  job: Job;
  size?: 256 | 512;
  /** Shown in the corner: a row number. */
  caption?: string;
  onOpen(): void;
  isCurrent?: boolean;
  /** Signs only, where words stand beside it. */
  isBare?: boolean;
  className?: string;
}) {
  const asset = job.assets[0];
  const label = `${caption ? `${caption}: ` : ''}${STATE_LABEL[job.state]}. ${job.plan.prompt}`;
  return (
    <button
      type="button"
      onClick={onOpen}
      aria-label={label}
      aria-current={isCurrent || undefined}
      className={cx(
        'picture-ground group relative block size-full overflow-hidden rounded-md',
        isCurrent && 'ring-lamp ring-2',
        className,
      )}
    >
      {asset ? (
        <img
          src={thumbnailUrl(asset, size)}
          alt=""
          loading="lazy"
          decoding="async"
          draggable={false}
          className="size-full object-contain"
        />
      ) : (
        <span className="absolute inset-0 grid place-items-center">
          {job.state === 'running' && (
            <>
              <JobPreview job={job} className="size-full object-contain" />
              {!isBare && (
                <JobProgress job={job} isBarOnly className="absolute inset-x-2 bottom-2" />
              )}
            </>
          )}
          {job.state === 'failed' && (
            <span className="text-bad flex flex-col items-center gap-1 px-2 text-center text-xs">
              <CircleAlert size={18} aria-hidden="true" />
              {!isBare && (job.failure ? describeCode(job.failure.code) : 'Failed')}
            </span>
          )}
          {job.state === 'paused' && <Pause size={18} className="text-ink-3" aria-hidden="true" />}
          {job.state === 'cancelled' && <Ban size={18} className="text-ink-3" aria-hidden="true" />}
          {job.state === 'queued' && (
            <span className="bg-ink-3 size-1.5 rounded-full opacity-60" aria-hidden="true" />
          )}
        </span>
      )}
      {caption && (
        <span className="tnum bg-black/60 absolute top-1 left-1 rounded-sm px-1 text-xs text-white">
          {caption}
        </span>
      )}
    </button>
  );
}
