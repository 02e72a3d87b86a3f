// The picture in the making, large, or the one that was made.
import { Clapperboard, Copy, Info, Maximize2, Repeat2, Sparkles, X } from 'lucide-react';
import { useEffect, type ReactNode } from 'react';
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { assetUrl, thumbnailUrl } from '@/api/media';
import { useProgress } from '@/api/progress';
import { useAsset, useModels } from '@/api/queries';
import { settingsOf } from '@/api/settings-of';
import type { Job } from '@/api/types';
import { FailureReport } from '@/components/domain/FailureReport';
import { JobPreview, JobProgress } from '@/components/domain/JobProgress';
import { describeWait } from '@/components/domain/job-text';
import { CreateIcon } from '@/components/icons';
import { Player } from '@/components/player/Player';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Badge, EmptyState, Skeleton } from '@/components/ui/Feedback';
import { useClips } from '@/components/use-clips';
import { copyText } from '@/lib/clipboard';
import { loadSettings, updateDraft } from '@/lib/draft';
import { formatDuration } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';
import { stagedStore } from './staged';

/** Small pictures are shown larger, but not so large that they only blur. */
const LARGEST_ZOOM = 3;

function Frame({
  width,
  height,
  children,
}: {
  width: number;
  height: number;
  children?: ReactNode;
}) {
  return (
    <div className="grid size-full place-items-center [container-type:size]">
      <div
        className="bg-raised relative overflow-hidden rounded-md"
        style={{
          aspectRatio: `${width} / ${height}`,
          width: `min(100cqw, ${(100 * width) / height}cqh, ${width * LARGEST_ZOOM}px)`,
        }}
      >
        {children}
      </div>
    </div>
  );
}

function Bar({ children }: { children: ReactNode }) {
  return (
    <div className="bg-panel border-line flex min-h-13 shrink-0 items-center gap-2 border-t px-4 py-2">
      {children}
    </div>
  );
}

function RunningStage({ job }: { job: Job }) {
  const progress = useProgress(job.id, job.progress);
  const cancel = useCommand('jobs_cancel');
  const isRunning = job.state === 'running';
  return (
    <>
      <div className="min-h-0 flex-1 p-4">
        <Frame {...job.plan.size}>
          {isRunning && progress?.preview ? (
            <JobPreview job={job} className="size-full" />
          ) : (
            <div className="animate-sheen size-full" />
          )}
        </Frame>
      </div>
      <Bar>
        <div className="min-w-0 flex-1">
          {isRunning ? (
            <JobProgress job={job} />
          ) : (
            <p className="text-ink-2 text-sm">
              {job.state === 'paused'
                ? 'Paused. Resume it on the Queue page.'
                : describeWait(job.waiting)}
            </p>
          )}
        </div>
        <Button
          size="sm"
          icon={<X size={15} aria-hidden="true" />}
          disabled={job.is_cancelling}
          onClick={() => cancel.mutate({ id: job.id }, { onError: toastError })}
        >
          {job.is_cancelling ? 'Cancelling' : 'Cancel'}
        </Button>
      </Bar>
    </>
  );
}

export function AssetStage({ id }: { id: string }) {
  const { data: asset } = useAsset(id);
  const { openAsset } = useOverlay();
  const navigate = useNavigate();
  const clips = useClips();
  const staged = asset?.kind === 'image' && asset.trashed_at === null ? `asset:${asset.id}` : null;
  useEffect(() => {
    stagedStore.set(staged);
    return () => stagedStore.set(null);
  }, [staged]);
  if (!asset) return <Skeleton className="m-4 flex-1" />;
  const { plan, timings } = asset.recipe;
  const seconds = timings
    ? (timings.loading_ms +
        timings.encoding_ms +
        timings.generating_ms +
        timings.decoding_ms +
        timings.saving_ms) /
      1000
    : null;
  return (
    <>
      <div className="min-h-0 flex-1 p-4">
        {asset.clip ? (
          <Player
            key={asset.id}
            src={assetUrl(asset.id)}
            poster={thumbnailUrl(asset.id, 512)}
            label={plan.prompt}
            format={asset.format}
            clip={asset.clip}
          />
        ) : (
          <Frame width={asset.width} height={asset.height}>
            <button
              type="button"
              aria-label="Open the picture"
              className="block size-full cursor-zoom-in"
              onClick={() => openAsset(asset.id)}
            >
              <img
                key={asset.id}
                src={assetUrl(asset.id)}
                alt={plan.prompt}
                className="animate-appear size-full"
                draggable={false}
              />
            </button>
          </Frame>
        )}
      </div>
      <Bar>
        {plan.draft && <Badge tone="lamp">Draft</Badge>}
        <p className="text-ink-2 tnum min-w-0 flex-1 truncate text-sm">
          {asset.width} × {asset.height} · {plan.steps} steps · seed {plan.seed}
          {seconds !== null && ` · ${formatDuration(seconds)}`}
        </p>
        {plan.draft && asset.trashed_at === null && (
          <Button
            size="sm"
            variant="primary"
            isBusy={clips.isMakingFull}
            icon={<Sparkles size={15} aria-hidden="true" />}
            onClick={() => clips.makeFull([asset.id], asset.kind === 'video')}
          >
            Make it full
          </Button>
        )}
        {asset.kind === 'image' && clips.canAnimate && (
          <IconButton
            size="sm"
            label="Make it move: a draft, at once"
            onClick={() => clips.animate([`asset:${asset.id}`])}
          >
            <Clapperboard size={16} aria-hidden="true" />
          </IconButton>
        )}
        <IconButton
          size="sm"
          label="Copy the seed"
          onClick={() =>
            void copyText(String(plan.seed)).then(() => toast.success('Seed copied.'), toastError)
          }
        >
          <Copy size={15} aria-hidden="true" />
        </IconButton>
        <IconButton
          size="sm"
          label="Use these settings again"
          onClick={() => {
            void navigate(loadSettings(settingsOf(plan)));
            toast.success('Settings are in the form, seed included.');
          }}
        >
          <Repeat2 size={16} aria-hidden="true" />
        </IconButton>
        {asset.job && <JobLink id={asset.job} />}
        <IconButton
          size="sm"
          label={asset.clip ? 'Open the clip' : 'Open the picture'}
          onClick={() => openAsset(asset.id)}
        >
          <Maximize2 size={15} aria-hidden="true" />
        </IconButton>
      </Bar>
    </>
  );
}

function JobLink({ id }: { id: string }) {
  const { openJob } = useOverlay();
  return (
    <IconButton size="sm" label="Where the time went" onClick={() => openJob(id)}>
      <Info size={16} aria-hidden="true" />
    </IconButton>
  );
}

export function JobStage({ job, onRetried }: { job: Job; onRetried(batch: string): void }) {
  const retry = useCommand('jobs_retry');
  const navigate = useNavigate();
  if (job.assets[0]) return <AssetStage id={job.assets[0]} />;
  if (job.state === 'failed' && job.failure) {
    return (
      <div className="min-h-0 flex-1 overflow-y-auto p-4">
        <div className="bg-panel mx-auto max-w-2xl rounded-lg p-4">
          <FailureReport
            failure={job.failure}
            onRetry={(with_fix) =>
              retry.mutate(
                { id: job.id, with_fix },
                { onSuccess: ({ batch }) => onRetried(batch), onError: toastError },
              )
            }
          />
        </div>
      </div>
    );
  }
  if (job.state === 'cancelled') {
    return (
      <EmptyState
        className="flex-1"
        title="Cancelled"
        action={
          <Button onClick={() => void navigate(loadSettings(settingsOf(job.plan)))}>
            Use its settings again
          </Button>
        }
      >
        Nothing was kept of it.
      </EmptyState>
    );
  }
  return <RunningStage job={job} />;
}

export function EmptyStage() {
  const { data } = useModels();
  const model = data?.models.find((candidate) => candidate.id === data.default) ?? data?.models[0];
  return (
    <EmptyState
      className="flex-1"
      icon={<CreateIcon size={40} />}
      title="Your first picture"
      action={
        <ul className="flex max-w-xl flex-wrap justify-center gap-2">
          {(model?.example_prompts ?? []).slice(0, 3).map((example) => (
            <li key={example} className="max-w-full">
              <button
                type="button"
                className="bg-panel border-line hover:border-edge text-ink-2 hover:text-ink rounded-lg border px-3 py-2 text-left text-sm"
                onClick={() => updateDraft({ prompt: example })}
              >
                {example}
              </button>
            </li>
          ))}
        </ul>
      }
    >
      Say what to paint and press Generate. Or start from one of these.
    </EmptyState>
  );
}
