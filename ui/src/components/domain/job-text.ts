// States, stages and reasons in words.
import type { Code, Fix, Job, JobState, Progress, Stage, StagePart, WaitReason } from '@/api/types';
import { formatBytes, formatCount } from '@/lib/format';

export const STATE_LABEL: Record<JobState, string> = {
  queued: 'Waiting',
  paused: 'Paused',
  running: 'Running',
  done: 'Done',
  failed: 'Failed',
  cancelled: 'Cancelled',
};

export const STATE_TONE = {
  queued: 'plain',
  paused: 'warn',
  running: 'lamp',
  done: 'good',
  failed: 'bad',
  cancelled: 'plain',
} as const;

export const STAGE_LABEL: Record<Stage, string> = {
  loading: 'Loading the model',
  encoding: 'Reading the prompt',
  generating: 'Painting',
  decoding: 'Developing',
  saving: 'Saving',
};

/** What the two networks of a model do that shares the steps out. */
const PART_LABEL: Record<StagePart, Partial<Record<Stage, string>>> = {
  high_noise: { loading: 'Loading the network for motion', generating: 'Motion and large forms' },
  low_noise: { loading: 'Loading the network for detail', generating: 'Detail' },
};

/** `Painting · step 3 of 8`, `Reading the model · 40 %`. */
export function describeProgress(progress: Progress | null): string {
  if (!progress) return 'Starting';
  const part = progress.part ? PART_LABEL[progress.part][progress.stage] : undefined;
  const stage = part ?? STAGE_LABEL[progress.stage];
  if (progress.stage === 'loading' && progress.steps === 100) {
    return `${stage} · ${progress.step} %`;
  }
  return progress.steps > 1 ? `${stage} · step ${progress.step} of ${progress.steps}` : stage;
}

export function describeWait(reason: WaitReason | null | undefined): string {
  switch (reason?.kind) {
    case 'queue_paused':
      return 'The queue is paused';
    case 'behind':
      return reason.jobs === 1 ? 'Next after one job' : `Behind ${formatCount(reason.jobs)} jobs`;
    case 'engine_starting':
      return 'The engine is starting';
    case 'disk_full':
      return 'The disk is full: make room, and it goes on';
    default:
      return 'Next';
  }
}

const CODE_TITLE: Partial<Record<Code, string>> = {
  out_of_memory: 'Not enough memory',
  disk_full: 'The disk is full',
  engine_lost: 'The engine stopped',
  engine_unavailable: 'The engine does not start',
  poison: 'Stopped the engine twice',
  bad_weights: 'Damaged model files',
  bad_result: 'No usable picture',
  model_not_installed: 'Model not installed',
  unknown_model: 'Unknown model',
  io: 'Reading or writing failed',
};

export function describeCode(code: Code): string {
  return CODE_TITLE[code] ?? 'Failed';
}

/** What the button that tries again says; null where trying again needs something else first. */
export function describeFix(fix: Fix | null): string | null {
  switch (fix?.kind) {
    case 'resize':
      return `Retry at ${fix.width} × ${fix.height}`;
    case 'free_disk':
      return fix.bytes
        ? `Retry after freeing ${formatBytes(fix.bytes)}`
        : 'Retry after freeing disk space';
    case 'repair_model':
      return null;
    default:
      return 'Retry';
  }
}

/** One line under a job's prompt: model, size, steps, seed. */
export function describePlan(job: Job): string {
  const { plan } = job;
  return `${plan.model.name} · ${plan.size.width} × ${plan.size.height} · ${plan.steps} steps · seed ${plan.seed}`;
}
