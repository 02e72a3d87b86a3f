// The queue of the scripted studio, and the machine that takes from it one step at a time.
import type { Asset, Job, JobState, Stage } from '@/api/types';
import { asClip, inventFailure, makeAsset } from './invented';
import { MockJobs } from './jobs';
import { type Fields, FINAL, newId } from './state';

export class MockQueue extends MockJobs {
  queue_status() {
    return this.status();
  }
  queue_pause() {
    this.isPaused = true;
    this.emit({ type: 'queue_changed', queue: this.status() });
    return this.status();
  }
  queue_resume() {
    this.isPaused = false;
    this.emit({ type: 'queue_changed', queue: this.status() });
    return this.status();
  }
  protected scope({ batch, session }: Fields, states: JobState[]): Job[] {
    return [...this.jobs.values()].filter(
      (job) =>
        states.includes(job.state) &&
        (!batch || job.batch === batch) &&
        (!session || job.session === session),
    );
  }
  queue_cancel_all(input: Fields) {
    const jobs = this.scope(input, ['queued', 'paused', 'running']);
    for (const job of jobs) {
      if (job.state === 'running') job.is_cancelling = true;
      else Object.assign(job, { state: 'cancelled', finished_at: Date.now() });
    }
    this.changedMany();
    return { jobs: jobs.length };
  }
  queue_retry_failed(input: Fields) {
    const retried = new Set([...this.jobs.values()].map((job) => job.retry_of));
    const jobs = this.scope(input, ['failed']).filter((job) => !retried.has(job.id));
    for (const job of jobs) this.again(job, Boolean(input.with_fix));
    this.changedMany();
    return { jobs: jobs.length };
  }
  queue_clear_finished(input: Fields) {
    const jobs = this.scope(input, FINAL);
    for (const job of jobs) this.jobs.delete(job.id);
    this.changedMany();
    return { jobs: jobs.length };
  }
  protected changedMany(): void {
    this.recount();
    this.emit({ type: 'jobs_changed', batch: null });
    for (const batch of this.batches.values()) this.emit({ type: 'batch_changed', batch });
    this.emit({ type: 'queue_changed', queue: this.status() });
  }

  /** One tick of the machine: the first waiting job starts, running ones go on by one step. */
  step(): void {
    const running = [...this.jobs.values()].find((job) => job.state === 'running');
    if (!running) {
      if (this.isPaused) return;
      const next = this.inOrder().find((job) => job.state === 'queued');
      if (!next) return;
      this.change(next, {
        state: 'running',
        epoch: next.epoch + 1,
        started_at: Date.now(),
        progress: null,
      });
      return;
    }
    if (running.is_cancelling) {
      this.change(running, { state: 'cancelled', is_cancelling: false, finished_at: Date.now() });
      return;
    }
    const steps = running.plan.steps;
    const now = running.progress;
    const order: [Stage, number][] = [
      ['encoding', 1],
      ['generating', steps],
      ['decoding', 1],
      ['saving', 1],
    ];
    const total = steps + 3;
    const at = (now ? Math.round(now.fraction * total) : 0) + 1;
    if (at > total) return this.finish(running);
    let rest = at;
    const [stage, stageSteps] = order.find(([, count]) => (rest -= count) <= 0) ?? order[3]!;
    running.progress = {
      job: running.id,
      epoch: running.epoch,
      stage,
      step: stageSteps + rest,
      steps: stage === 'generating' ? steps : 0,
      fraction: at / total,
      eta_seconds: ((total - at) * 0.13) / 1,
      preview: stage === 'encoding' ? 0 : Math.min(steps, at - 1),
    };
    this.emit({ type: 'job_progress', progress: running.progress });
  }

  protected finish(job: Job): void {
    this.started += 1;
    const { failEvery = 0 } = this.options;
    if (failEvery && this.started % failEvery === 0 && !job.retry_of) {
      job.progress = null;
      this.change(job, {
        state: 'failed',
        finished_at: Date.now(),
        failure: inventFailure(this.started),
      });
      return;
    }
    const asset = this.store(job);
    job.progress = null;
    this.emit({ type: 'asset_changed', asset });
    this.change(job, {
      state: 'done',
      finished_at: Date.now(),
      assets: [asset.id],
      timings: asset.recipe.timings!,
    });
  }

  protected store(job: Job, at = Date.now()): Asset {
    const still = makeAsset(job.plan, newId(), at, job);
    const asset = job.plan.video ? asClip(still) : still;
    this.assets.unshift(asset);
    const session = job.session && this.sessions.get(job.session);
    if (session) {
      session.assets += 1;
      session.updated_at = at;
      this.emit({ type: 'session_changed', session });
    }
    return asset;
  }
}
