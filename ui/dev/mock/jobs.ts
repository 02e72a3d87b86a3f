// Jobs of the scripted studio: submitted, listed, moved, cancelled, tried again.
import { ApiError } from '@/api/error';
import type { Asset, Batch, Event, Job, JobState, RequestInput } from '@/api/types';
import { MockRequests } from './requests';
import { type Fields, FINAL, newId, noCounts, refuse } from './state';

export class MockJobs extends MockRequests {
  protected enqueue(
    requests: { request: RequestInput; line: number | null }[],
    kind: Batch['kind'],
    title: string,
  ) {
    const session = this.session(
      requests[0]!.request.session,
      kind === 'list' ? 'bulk' : 'image',
      title.slice(0, 60),
    );
    const batch: Batch = {
      id: newId(),
      kind,
      title,
      session: session.id,
      counts: noCounts(),
      created_at: Date.now(),
      eta_seconds: null,
    };
    this.batches.set(batch.id, batch);
    const made: Job[] = [];
    for (const { request, line } of requests) {
      for (let copy = 0; copy < (request.copies ?? 1); copy += 1) {
        const job: Job = {
          id: newId(),
          batch: batch.id,
          session: session.id,
          line,
          copy,
          lane: 'gpu0',
          priority: kind === 'list' ? 'bulk' : 'interactive',
          position: (this.position += 1),
          state: 'queued',
          epoch: 0,
          deaths: 0,
          plan: this.plan(request, copy),
          retry_of: null,
          failure: null,
          timings: null,
          assets: [],
          created_at: Date.now(),
          started_at: null,
          finished_at: null,
          is_cancelling: false,
        };
        this.jobs.set(job.id, job);
        made.push(job);
      }
    }
    this.recount();
    if (made.length > 20) this.emit({ type: 'jobs_changed', batch: batch.id });
    else this.emit(...made.map((job): Event => ({ type: 'job_changed', job })));
    this.emit({ type: 'batch_changed', batch }, { type: 'queue_changed', queue: this.status() });
    return {
      batch: batch.id,
      session: session.id,
      pictures: made.length,
      jobs: made.slice(0, 1000).map((job) => ({ id: job.id, seed: job.plan.seed })),
      notes: [],
    };
  }

  jobs_submit(request: RequestInput) {
    const { problems } = this.check(request);
    if (problems[0]) throw new ApiError({ ...problems[0], problems });
    return this.enqueue([{ request, line: null }], 'copies', request.prompt ?? '');
  }

  /** A result by its id; the gallery knows. */
  protected assetOf(_id: string): Asset | undefined {
    return undefined;
  }
  clips_animate({ images, prompt, full }: Fields) {
    const requests = (images as string[]).map((image) => ({
      request: {
        prompt: (prompt as string) ?? '',
        image,
        kind: 'video',
        draft: !full,
      } as RequestInput,
      line: null,
    }));
    return this.enqueue(requests, 'copies', 'Clip');
  }
  clips_make_full({ ids }: Fields) {
    const requests = (ids as string[]).map((id) => {
      const { plan } = this.assetOf(id)!.recipe;
      const { size, steps } = plan.draft!;
      return {
        request: {
          prompt: plan.prompt,
          model: plan.model.id,
          seed: plan.seed,
          steps,
          width: size.width,
          height: size.height,
        } as RequestInput,
        line: null,
      };
    });
    return this.enqueue(requests, 'copies', 'Clip');
  }

  protected inOrder(): Job[] {
    const rank = { running: 0, queued: 1, paused: 1, failed: 2, done: 2, cancelled: 2 };
    const weight = { urgent: 0, interactive: 1, bulk: 2 };
    return [...this.jobs.values()].sort(
      (a, b) =>
        rank[a.state] - rank[b.state] ||
        (FINAL.includes(a.state)
          ? (b.finished_at ?? 0) - (a.finished_at ?? 0)
          : weight[a.priority] - weight[b.priority] || a.position - b.position),
    );
  }

  jobs_list(query: Fields) {
    const states = query.states as JobState[] | undefined;
    let list = this.inOrder();
    if (query.batch && !states?.length) list = list.sort((a, b) => a.position - b.position);
    const ahead = new Map(
      list.filter((job) => job.state === 'queued').map((job, index) => [job.id, index]),
    );
    list = list.filter(
      (job) =>
        (!states?.length || states.includes(job.state)) &&
        (!query.batch || job.batch === query.batch) &&
        (!query.session || job.session === query.session) &&
        (!query.active || !FINAL.includes(job.state)),
    );
    const offset = Number(query.offset ?? 0);
    return {
      total: list.length,
      jobs: list.slice(offset, offset + Number(query.limit ?? 100)).map((job) => ({
        ...job,
        waiting:
          job.state !== 'queued'
            ? null
            : this.isPaused
              ? { kind: 'queue_paused' }
              : { kind: 'behind', jobs: (ahead.get(job.id) ?? 0) + 1 },
      })),
    };
  }

  protected job(id: unknown): Job {
    return (
      this.jobs.get(String(id)) ??
      refuse(
        'not_found',
        'this job is not in the queue any more',
        'Look for its picture in the gallery.',
      )
    );
  }

  jobs_get({ id }: Fields) {
    return this.job(id);
  }

  protected change(job: Job, change: Partial<Job>): Job {
    Object.assign(job, change);
    this.recount();
    this.emit({ type: 'job_changed', job });
    const batch = job.batch && this.batches.get(job.batch);
    if (batch) this.emit({ type: 'batch_changed', batch });
    this.emit({ type: 'queue_changed', queue: this.status() });
    return job;
  }

  jobs_cancel({ id }: Fields) {
    const job = this.job(id);
    if (FINAL.includes(job.state))
      refuse('conflict', 'the job is finished', 'There is nothing to cancel.');
    if (job.state === 'running') return this.change(job, { is_cancelling: true });
    return this.change(job, { state: 'cancelled', finished_at: Date.now() });
  }
  jobs_pause({ id }: Fields) {
    return this.change(this.job(id), { state: 'paused' });
  }
  jobs_resume({ id }: Fields) {
    return this.change(this.job(id), { state: 'queued' });
  }
  jobs_move({ id, before }: Fields) {
    const job = this.job(id);
    const waiting = this.inOrder().filter(
      (other) => ['queued', 'paused'].includes(other.state) && other.id !== job.id,
    );
    const index = before ? waiting.findIndex((other) => other.id === before) : waiting.length;
    waiting.splice(index < 0 ? waiting.length : index, 0, job);
    const next = waiting[waiting.indexOf(job) + 1];
    if (next) job.priority = next.priority;
    waiting.forEach((other, at) => (other.position = this.position + at + 1));
    this.position += waiting.length;
    this.emit({ type: 'jobs_changed', batch: null });
    return job;
  }
  jobs_set_priority({ id, priority }: Fields) {
    return this.change(this.job(id), { priority: priority as Job['priority'] });
  }
  jobs_remove({ id }: Fields) {
    this.jobs.delete(this.job(id).id);
    this.recount();
    this.emit({ type: 'job_removed', job: String(id) });
    return { jobs: 1 };
  }

  protected again(job: Job, withFix: boolean): Job {
    const fix = job.failure?.fix;
    const copy: Job = {
      ...structuredClone(job),
      id: newId(),
      state: 'queued',
      retry_of: job.id,
      failure: null,
      deaths: 0,
      epoch: 0,
      position: (this.position += 1),
      created_at: Date.now(),
      started_at: null,
      finished_at: null,
    };
    if (withFix && fix?.kind === 'resize')
      copy.plan.size = { width: fix.width, height: fix.height };
    this.jobs.set(copy.id, copy);
    return copy;
  }

  jobs_retry({ id, with_fix }: Fields) {
    const copy = this.again(this.job(id), Boolean(with_fix));
    this.change(copy, {});
    return {
      batch: copy.batch,
      session: copy.session,
      pictures: 1,
      jobs: [{ id: copy.id, seed: copy.plan.seed }],
      notes: [],
    };
  }
}
