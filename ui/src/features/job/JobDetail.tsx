// One job, completely, beside the page: progress, plan, timings, post-mortem, and the machine.
import { Ban, Clapperboard, Pause, Play, Repeat2, RotateCw, Sparkles, X } from 'lucide-react';
import { Dialog } from 'radix-ui';
import type { ReactNode } from 'react';
import { useNavigate } from 'react-router';

import { useCommand } from '@/api/client';
import { thumbnailUrl } from '@/api/media';
import { useJob } from '@/api/queries';
import { settingsOf } from '@/api/settings-of';
import type { Job } from '@/api/types';
import { FailureReport } from '@/components/domain/FailureReport';
import { describeWait, STATE_LABEL, STATE_TONE } from '@/components/domain/job-text';
import { JobPreview, JobProgress } from '@/components/domain/JobProgress';
import { SystemMeters } from '@/components/domain/SystemMeters';
import { TimingsBar } from '@/components/domain/TimingsBar';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { focusContent, useFocusReturn } from '@/components/ui/Dialog';
import { Badge, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { useClips } from '@/components/use-clips';
import { loadSettings } from '@/lib/draft';
import { formatDate } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';

export default function JobDetail({ id }: { id: string }) {
  const { close } = useOverlay();
  const { data: job, error, refetch } = useJob(id);
  const focus = useFocusReturn(focusContent);
  return (
    <Dialog.Root open onOpenChange={(isOpen) => !isOpen && close()}>
      <Dialog.Portal>
        <Dialog.Overlay className="bg-scrim animate-appear fixed inset-0 z-40" />
        <Dialog.Content
          aria-describedby={undefined}
          {...focus}
          className="shadow-float bg-panel animate-appear fixed inset-y-0 right-0 z-50 flex w-full max-w-[30rem] flex-col outline-none"
        >
          <header className="border-line flex items-center gap-3 border-b px-5 py-3">
            <Dialog.Title className="text-lg font-semibold">Job</Dialog.Title>
            {job && <Badge tone={STATE_TONE[job.state]}>{STATE_LABEL[job.state]}</Badge>}
            {job?.plan.draft && <Badge>Draft</Badge>}
            {job && job.deaths > 0 && <Badge tone="warn">The engine stopped under it</Badge>}
            <Dialog.Close asChild>
              <IconButton label="Close" size="sm" className="-mr-2 ml-auto">
                <X size={17} aria-hidden="true" />
              </IconButton>
            </Dialog.Close>
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto p-5">
            {error ? (
              <ErrorNotice error={error} onRetry={() => void refetch()} />
            ) : job ? (
              <Detail job={job} />
            ) : (
              <Skeleton className="h-64" />
            )}
          </div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="mt-6">
      <h3 className="text-ink-2 mb-2 text-sm font-medium">{title}</h3>
      {children}
    </section>
  );
}

function Detail({ job }: { job: Job }) {
  const { openAsset, openJob, close } = useOverlay();
  const navigate = useNavigate();
  const cancel = useCommand('jobs_cancel');
  const pause = useCommand('jobs_pause');
  const resume = useCommand('jobs_resume');
  const retry = useCommand('jobs_retry');
  const clips = useClips();
  const asset = job.assets[0];
  const isOpen = ['queued', 'paused', 'running'].includes(job.state);
  const { plan } = job;
  const again = (with_fix: boolean) =>
    retry.mutate(
      { id: job.id, with_fix },
      {
        onSuccess: ({ jobs }) => jobs[0] && openJob(jobs[0].id),
        onError: toastError,
      },
    );

  return (
    <>
      {asset ? (
        <button
          type="button"
          aria-label={plan.video ? 'Open the clip' : 'Open the picture'}
          onClick={() => openAsset(asset)}
          className="picture-ground block h-64 w-full overflow-hidden rounded-lg"
        >
          <img
            src={thumbnailUrl(asset, 512)}
            alt={plan.prompt}
            className="size-full object-contain"
          />
        </button>
      ) : (
        job.state === 'running' && (
          <div className="picture-ground mb-3 h-64 overflow-hidden rounded-lg">
            <JobPreview job={job} className="size-full object-contain" />
          </div>
        )
      )}
      {job.state === 'running' && <JobProgress job={job} />}
      {job.state === 'queued' && <p className="text-ink-2">{describeWait(job.waiting)}</p>}
      <p className="mt-3 text-base leading-relaxed">{plan.prompt}</p>
      {plan.negative_prompt && (
        <p className="text-ink-2 mt-1 text-sm">Without: {plan.negative_prompt}</p>
      )}
      <div className="mt-4 flex flex-wrap gap-2">
        {job.state === 'paused' && (
          <Button
            size="sm"
            icon={<Play size={14} aria-hidden="true" />}
            onClick={() => resume.mutate({ id: job.id }, { onError: toastError })}
          >
            Resume
          </Button>
        )}
        {(job.state === 'queued' || job.state === 'running') && (
          <Button
            size="sm"
            icon={<Pause size={14} aria-hidden="true" />}
            onClick={() => pause.mutate({ id: job.id }, { onError: toastError })}
          >
            Set aside
          </Button>
        )}
        {isOpen && (
          <Button
            size="sm"
            disabled={job.is_cancelling}
            icon={<Ban size={14} aria-hidden="true" />}
            onClick={() => cancel.mutate({ id: job.id }, { onError: toastError })}
          >
            {job.is_cancelling ? 'Cancelling' : 'Cancel'}
          </Button>
        )}
        {(job.state === 'done' || job.state === 'cancelled') && (
          <Button
            size="sm"
            icon={<RotateCw size={14} aria-hidden="true" />}
            onClick={() => again(false)}
          >
            Run again
          </Button>
        )}
        {asset && plan.draft && (
          <Button
            size="sm"
            variant="primary"
            isBusy={clips.isMakingFull}
            icon={<Sparkles size={14} aria-hidden="true" />}
            onClick={() => clips.makeFull([asset], Boolean(plan.video))}
          >
            Make it full
          </Button>
        )}
        {asset && !plan.video && clips.canAnimate && (
          <Button
            size="sm"
            icon={<Clapperboard size={14} aria-hidden="true" />}
            onClick={() => clips.animate([`asset:${asset}`])}
          >
            Make it move
          </Button>
        )}
        <Button
          size="sm"
          icon={<Repeat2 size={14} aria-hidden="true" />}
          onClick={() => {
            const page = loadSettings(settingsOf(plan));
            close();
            void navigate(page);
          }}
        >
          Use settings
        </Button>
      </div>

      {job.failure && (
        <Section title="What happened">
          <FailureReport failure={job.failure} onRetry={again} />
        </Section>
      )}
      {job.timings && (
        <Section title="Where the time went">
          <TimingsBar timings={job.timings} />
        </Section>
      )}
      <Section title="Plan">
        <dl className="tnum grid grid-cols-[8rem_minmax(0,1fr)] gap-y-1.5 text-sm">
          <Fact label="Model">{plan.model.name}</Fact>
          <Fact label="Size">
            {plan.size.width} × {plan.size.height}
          </Fact>
          {plan.video && (
            <Fact label="Length">
              {plan.video.frames} frames at {plan.video.fps} per second
            </Fact>
          )}
          <Fact label="Steps">{plan.steps}</Fact>
          {plan.guidance !== null && <Fact label="Guidance">{plan.guidance}</Fact>}
          {plan.true_cfg !== null && <Fact label="Negative guidance">{plan.true_cfg}</Fact>}
          {plan.step_cache != null && <Fact label="Step reuse">{plan.step_cache}</Fact>}
          <Fact label="Seed">{plan.seed}</Fact>
          {job.line !== null && <Fact label="Line of the list">{job.line}</Fact>}
          <Fact label="File">{`${plan.output.stem}.${plan.output.format}`}</Fact>
          <Fact label="Queued">{formatDate(job.created_at)}</Fact>
          {job.started_at !== null && <Fact label="Started">{formatDate(job.started_at)}</Fact>}
          {job.finished_at !== null && <Fact label="Finished">{formatDate(job.finished_at)}</Fact>}
          {job.epoch > 1 && <Fact label="Attempts">{job.epoch}</Fact>}
          {job.retry_of && (
            <Fact label="Tries again">
              <button
                type="button"
                className="text-lamp-ink underline underline-offset-2"
                onClick={() => openJob(job.retry_of!)}
              >
                an earlier job
              </button>
            </Fact>
          )}
        </dl>
      </Section>
      <Section title="The machine now">
        <SystemMeters />
      </Section>
    </>
  );
}

function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-ink-3">{label}</dt>
      <dd className="min-w-0 break-words">{children}</dd>
    </>
  );
}
