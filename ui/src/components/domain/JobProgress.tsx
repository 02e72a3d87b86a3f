// A running job as a bar with words. Follows the progress store, so only this re-renders.
import { previewUrl } from '@/api/media';
import { useProgress } from '@/api/progress';
import type { Job } from '@/api/types';
import { ProgressBar } from '@/components/ui/Feedback';
import { cx } from '@/lib/cx';
import { formatDuration } from '@/lib/format';
import { useMediaQuery } from '@/lib/hooks';
import { describeProgress } from './job-text';

export function JobProgress({
  job,
  className,
  isBarOnly,
  isOver,
}: {
  job: Job;
  className?: string;
  isBarOnly?: boolean;
  /** It has just ended; its last progress is gone. */
  isOver?: boolean;
}) {
  const progress = useProgress(job.id, job.progress);
  const words = isOver
    ? 'Done'
    : job.is_cancelling
      ? 'Stopping at the next step'
      : describeProgress(progress);
  return (
    <div className={cx('flex min-w-0 flex-col gap-1', className)}>
      {!isBarOnly && (
        <div className="text-ink-2 tnum flex justify-between gap-3 text-xs">
          <span className="truncate">{words}</span>
          {(progress?.eta_seconds ?? 0) >= 0.1 && !job.is_cancelling && !isOver && (
            <span className="shrink-0">about {formatDuration(progress!.eta_seconds!)}</span>
          )}
        </div>
      )}
      <ProgressBar value={isOver ? 1 : (progress?.fraction ?? 0)} label={words} />
    </div>
  );
}

/** The latest preview of a running job, or nothing yet. A clip's moves, unless nothing should. */
export function JobPreview({ job, className }: { job: Job; className?: string }) {
  const progress = useProgress(job.id, job.progress);
  const isCalm = useMediaQuery('(prefers-reduced-motion: reduce)');
  if (!progress?.preview) return null;
  return (
    <img
      src={previewUrl(job.id, progress.preview, Boolean(job.plan.video) && !isCalm)}
      alt="Preview so far"
      className={className}
      draggable={false}
    />
  );
}
