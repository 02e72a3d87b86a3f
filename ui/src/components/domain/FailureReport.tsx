// Why a job failed, completely: where, with which memory, the engine's last lines, what helps.
import { RotateCw, Wrench } from 'lucide-react';

import type { Failure, MemorySample } from '@/api/types';
import { Button } from '@/components/ui/Button';
import { formatBytes, formatMilliseconds } from '@/lib/format';
import { STAGE_LABEL, describeCode, describeFix } from './job-text';

export function FailureReport({
  failure,
  onRetry,
}: {
  failure: Failure;
  /** Queues the job again, with the fix or as it was. */
  onRetry?(withFix: boolean): void;
}) {
  const fix = describeFix(failure.fix);
  const changesPlan = failure.fix?.kind === 'resize';
  return (
    <div className="flex flex-col gap-4">
      <div className="bg-bad-wash rounded-lg p-3.5">
        <p className="text-ink font-semibold">{describeCode(failure.code)}</p>
        <p className="text-ink-2 mt-0.5 text-sm">Failed to {failure.message}.</p>
        {failure.hint && <p className="text-ink mt-2 text-sm font-medium">{failure.hint}</p>}
        {failure.stage && (
          <p className="text-ink-2 mt-2 text-xs">
            Where: {STAGE_LABEL[failure.stage].toLowerCase()}
            {failure.step != null && failure.step > 0 && `, step ${failure.step}`}
          </p>
        )}
        {onRetry && (
          <div className="mt-3 flex flex-wrap gap-2">
            {fix && (
              <Button
                size="sm"
                variant="primary"
                icon={
                  changesPlan ? (
                    <Wrench size={14} aria-hidden="true" />
                  ) : (
                    <RotateCw size={14} aria-hidden="true" />
                  )
                }
                onClick={() => onRetry(changesPlan)}
              >
                {fix}
              </Button>
            )}
            {(changesPlan || !fix) && (
              <Button
                size="sm"
                icon={<RotateCw size={14} aria-hidden="true" />}
                onClick={() => onRetry(false)}
              >
                Retry as it was
              </Button>
            )}
          </div>
        )}
      </div>
      {failure.memory.length > 1 && <MemoryCurve samples={failure.memory} />}
      {failure.log.length > 0 && (
        <section>
          <h3 className="text-ink-2 mb-1.5 text-sm font-medium">The engine’s last lines</h3>
          <pre
            // Scrollable, so it has to be reachable by keyboard.
            // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
            tabIndex={0}
            role="region"
            aria-label="The engine’s last lines"
            className="bg-canvas text-ink-2 max-h-56 overflow-auto rounded-md p-3 font-mono text-xs leading-5"
          >
            {failure.log.join('\n')}
          </pre>
        </section>
      )}
    </div>
  );
}

/** Memory of the engine, and what the machine had left, over the run. */
export function MemoryCurve({ samples }: { samples: MemorySample[] }) {
  const width = 400;
  const height = 96;
  const end = Math.max(1, samples[samples.length - 1]!.at_ms);
  const peak = samples.reduce((most, sample) => Math.max(most, sample.resident), 0);
  const lowest = samples.reduce((least, sample) => Math.min(least, sample.available), Infinity);
  const top = Math.max(peak, ...samples.map((sample) => sample.available)) * 1.08 || 1;
  const path = (value: (sample: MemorySample) => number) =>
    samples
      .map(
        (sample, index) =>
          `${index ? 'L' : 'M'}${((sample.at_ms / end) * width).toFixed(1)} ${(height - (value(sample) / top) * height).toFixed(1)}`,
      )
      .join('');
  const engine = path((sample) => sample.resident);
  return (
    <figure>
      <figcaption className="text-ink-2 mb-1.5 flex flex-wrap justify-between gap-x-4 text-sm">
        <span className="font-medium">Memory while it ran</span>
        <span className="tnum flex gap-3 text-xs">
          <span className="flex items-center gap-1.5">
            <span className="bg-lamp h-0.5 w-3 rounded-full" />
            engine, peak {formatBytes(peak)}
          </span>
          <span className="flex items-center gap-1.5">
            <span className="bg-info-fill h-0.5 w-3 rounded-full" />
            free, least {formatBytes(lowest)}
          </span>
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        className="bg-canvas h-24 w-full rounded-md"
        role="img"
        aria-label={`Memory of the engine rose to ${formatBytes(peak)}; the machine had at least ${formatBytes(lowest)} left.`}
      >
        <path d={`${engine}L${width} ${height}L0 ${height}Z`} fill="var(--lamp)" opacity="0.16" />
        <path
          d={engine}
          fill="none"
          stroke="var(--lamp)"
          strokeWidth="2"
          vectorEffect="non-scaling-stroke"
        />
        <path
          d={path((sample) => sample.available)}
          fill="none"
          stroke="var(--info-fill)"
          strokeWidth="1.5"
          strokeDasharray="4 3"
          vectorEffect="non-scaling-stroke"
        />
      </svg>
      <p className="text-ink-3 tnum mt-1 text-xs">over {formatMilliseconds(end)}</p>
    </figure>
  );
}
