import { QueryClient } from '@tanstack/react-query';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { inventFailure, makeAsset, MockBackend } from '#dev/mock/backend';
import { applyEvents, EventSink, matchesAssetFilter, matchesJobFilter, REFRESH_MS } from './events';
import { keys, type JobFilter, type ListPage } from './keys';
import { progressStore } from './progress';
import type { Asset, Event, Job, JobPage, Progress } from './types';

async function makeJobs(count: number): Promise<Job[]> {
  const backend = new MockBackend();
  backend.jobs_submit({ prompt: 'a hill', copies: count });
  return ((await backend.call('jobs_list', {})) as JobPage).jobs;
}

const pageOf = <T>(items: T[], total = items.length): ListPage<T> => ({ items, total });

let client: QueryClient;
let stale: string[];
const apply = (...events: Event[]) =>
  applyEvents(client, events, (key) => stale.push(JSON.stringify(key)));

beforeEach(() => {
  client = new QueryClient();
  stale = [];
  progressStore.clear();
});

describe('a changed job', () => {
  it('replaces its copy in every list and by itself, and nothing else', async () => {
    const [first, second] = (await makeJobs(2)) as [Job, Job];
    const filter: JobFilter = { batch: first.batch! };
    client.setQueryData(keys.jobPage(filter, 0), pageOf([first, second]));
    client.setQueryData(keys.job(first.id), first);
    const running: Job = { ...first, state: 'running', epoch: 1 };
    apply({ type: 'job_changed', job: running });
    const page = client.getQueryData<ListPage<Job>>(keys.jobPage(filter, 0))!;
    expect(page.items[0]).toEqual(running);
    expect(page.items[1]).toBe(second);
    expect(client.getQueryData(keys.job(first.id))).toEqual(running);
    expect(stale).toEqual([]);
  });

  it('does not begin to cache jobs that nobody looks at', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    apply({ type: 'job_changed', job });
    expect(client.getQueryCache().getAll()).toHaveLength(0);
  });

  it('makes a list of states stale when it leaves it', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    const filter: JobFilter = { states: ['queued', 'paused'] };
    client.setQueryData(keys.jobPage(filter, 0), pageOf([job]));
    apply({ type: 'job_changed', job: { ...job, state: 'running', epoch: 1 } });
    expect(stale).toContain(JSON.stringify(keys.jobList(filter)));
  });

  it('makes a list of its batch stale only when it is new there', async () => {
    const [job, other] = (await makeJobs(2)) as [Job, Job];
    const filter: JobFilter = { batch: job.batch! };
    client.setQueryData(keys.jobPage(filter, 0), pageOf([other], 2));
    // On a page that is not loaded: known to be there, nothing to read again.
    apply({ type: 'job_changed', job: { ...job, state: 'running', epoch: 1 } });
    expect(stale).toEqual([]);
    apply({ type: 'job_changed', job });
    expect(stale).toEqual([JSON.stringify(keys.jobList(filter))]);
  });

  it('that ended is asked for again where an older answer is under way', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    const filter: JobFilter = { batch: job.batch! };
    const key = keys.jobPage(filter, 0);
    client.setQueryData(key, pageOf([job]));
    let answer: (page: ListPage<Job>) => void = () => undefined;
    const asked = client.fetchQuery({
      queryKey: key,
      queryFn: () => new Promise<ListPage<Job>>((resolve) => (answer = resolve)),
    });
    apply({ type: 'job_changed', job: { ...job, state: 'running', epoch: 1 } });
    expect(stale).toEqual([]);
    apply({ type: 'job_changed', job: { ...job, state: 'cancelled', epoch: 1 } });
    expect(stale).toEqual([JSON.stringify(key)]);
    answer(pageOf([job]));
    await asked;
    apply({ type: 'job_changed', job: { ...job, state: 'cancelled', epoch: 1 } });
    expect(stale).toHaveLength(1);
  });

  it('of another batch leaves a list alone', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    client.setQueryData(keys.jobPage({ batch: 'other' }, 0), pageOf<Job>([]));
    apply({ type: 'job_changed', job });
    expect(stale).toEqual([]);
  });

  it('counts once when it changes several times at once', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    client.setQueryData(keys.job(job.id), job);
    const done: Job = { ...job, state: 'failed', failure: inventFailure(2) };
    apply(
      { type: 'job_changed', job: { ...job, state: 'running' } },
      { type: 'job_changed', job: done },
    );
    expect(client.getQueryData(keys.job(job.id))).toEqual(done);
  });
});

describe('progress', () => {
  const at = (change: Partial<Progress>): Progress => ({
    job: 'j',
    epoch: 1,
    stage: 'generating',
    step: 1,
    steps: 8,
    fraction: 0.2,
    eta_seconds: 3,
    preview: 1,
    ...change,
  });

  it('goes beside the cache', () => {
    apply({ type: 'job_progress', progress: at({}) });
    expect(progressStore.get('j')?.step).toBe(1);
    expect(client.getQueryCache().getAll()).toHaveLength(0);
  });

  it('of an attempt that was replaced is dropped', () => {
    apply(
      { type: 'job_progress', progress: at({ epoch: 2, step: 5 }) },
      { type: 'job_progress', progress: at({ epoch: 1, step: 7 }) },
    );
    expect(progressStore.get('j')?.step).toBe(5);
  });

  it('wakes only those who follow that job', () => {
    const heard = vi.fn();
    const other = vi.fn();
    progressStore.subscribe('j', heard);
    progressStore.subscribe('k', other);
    apply({ type: 'job_progress', progress: at({}) });
    expect(heard).toHaveBeenCalledOnce();
    expect(other).not.toHaveBeenCalled();
  });

  it('ends with the job', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    apply({ type: 'job_progress', progress: at({ job: job.id }) });
    apply({ type: 'job_changed', job: { ...job, state: 'done' } });
    expect(progressStore.get(job.id)).toBeUndefined();
  });
});

describe('a changed picture', () => {
  const make = async (): Promise<Asset> => {
    const [job] = (await makeJobs(1)) as [Job];
    return makeAsset(job.plan, 'a1', 5, job);
  };
  it('that is new makes the gallery stale, but not the trash of another session', async () => {
    const asset = await make();
    client.setQueryData(keys.assetPage({}, 0), pageOf<Asset>([]));
    client.setQueryData(keys.assetPage({ session: 'other' }, 0), pageOf<Asset>([]));
    apply({ type: 'asset_changed', asset });
    expect(stale).toEqual([JSON.stringify(keys.assetList({}))]);
  });
  it('that went to the trash leaves the gallery and enters the trash', async () => {
    const asset = await make();
    client.setQueryData(keys.assetPage({}, 0), pageOf([asset]));
    client.setQueryData(keys.assetPage({ trashed: true }, 0), pageOf<Asset>([]));
    apply({ type: 'asset_changed', asset: { ...asset, trashed_at: 9 } });
    expect(new Set(stale)).toEqual(
      new Set([
        JSON.stringify(keys.assetList({})),
        JSON.stringify(keys.assetList({ trashed: true })),
      ]),
    );
  });
});

describe('filters', () => {
  it('match as the server does', async () => {
    const [job] = (await makeJobs(1)) as [Job];
    expect(matchesJobFilter({ active: true }, job)).toBe(true);
    expect(matchesJobFilter({ active: true }, { ...job, state: 'done' })).toBe(false);
    expect(matchesJobFilter({ session: 'x' }, job)).toBe(false);
    const asset = makeAsset(job.plan, 'a', 1, job);
    expect(matchesAssetFilter({ model: 'starter' }, asset)).toBe(true);
    expect(matchesAssetFilter({ model: 'flux-dev' }, asset)).toBe(false);
    expect(matchesAssetFilter({ trashed: true }, asset)).toBe(false);
  });
});

describe('the sink', () => {
  it('applies once per frame and reads stale lists again once', () => {
    vi.useFakeTimers();
    const invalidate = vi.spyOn(client, 'invalidateQueries').mockResolvedValue();
    let flush = () => {};
    const sink = new EventSink(client, (next) => (flush = next));
    for (let i = 0; i < 50; i += 1) sink.push([{ type: 'jobs_changed', batch: null }]);
    flush();
    expect(invalidate).not.toHaveBeenCalled();
    vi.advanceTimersByTime(REFRESH_MS);
    expect(invalidate.mock.calls.map(([filters]) => filters?.queryKey)).toEqual([
      ['jobs'],
      ['queue'],
    ]);
    vi.useRealTimers();
  });

  it('asks again what a request will cost when the queue grew or shrank', () => {
    const stale: string[] = [];
    const queue = (queued: number) => ({
      type: 'queue_changed' as const,
      queue: {
        is_paused: false,
        eta_seconds: null,
        counts: { queued, paused: 0, running: 0, done: 0, failed: 0, cancelled: 0 },
      },
    });
    const tell = (queued: number) => {
      stale.length = 0;
      applyEvents(client, [queue(queued)], (key) => void stale.push(String(key[0])));
      return stale;
    };
    expect(tell(2)).toEqual(['preflight']);
    expect(tell(2)).toEqual([]);
    expect(tell(0)).toEqual(['preflight', 'bulk-check']);
  });

  it('reads everything again after it lagged', () => {
    vi.useFakeTimers();
    const invalidate = vi.spyOn(client, 'invalidateQueries').mockResolvedValue();
    const sink = new EventSink(client, (next) => next());
    sink.refreshAll();
    vi.advanceTimersByTime(REFRESH_MS);
    expect(invalidate).toHaveBeenCalledWith({ queryKey: [] });
    vi.useRealTimers();
  });
});
