// Events into the cache: the one place where what the server tells becomes what pages show.
//
// A changed job or asset replaces its copies. A list whose members may be different now (something
// new, or a change of state in a list of states) is read again, at most every `REFRESH_MS` and
// only where it is on screen. Progress never touches the cache (see progress.ts).
import type { QueryClient, QueryKey } from '@tanstack/react-query';

import { keys, type AssetFilter, type JobFilter, type ListPage } from './keys';
import { progressStore } from './progress';
import type { Asset, Batch, Event, Job, QueueStatus, Session } from './types';

/** How long changed lists wait for more changes before they are read again. */
export const REFRESH_MS = 400;

const FINAL = new Set(['done', 'failed', 'cancelled']);

export function isFinal(job: Job): boolean {
  return FINAL.has(job.state);
}

export function matchesJobFilter(filter: JobFilter, job: Job): boolean {
  if (filter.states?.length && !filter.states.includes(job.state)) return false;
  if (filter.session && filter.session !== job.session) return false;
  if (filter.batch && filter.batch !== job.batch) return false;
  return !(filter.active && isFinal(job));
}

export function matchesAssetFilter(filter: AssetFilter, asset: Asset): boolean {
  if (Boolean(filter.trashed) !== (asset.trashed_at !== null)) return false;
  if (filter.session && filter.session !== asset.session) return false;
  if (filter.batch && filter.batch !== asset.batch) return false;
  if (filter.model && filter.model !== asset.recipe.plan.model.id) return false;
  return true; // What a search finds only the server knows: it may match.
}

interface CachedPage<T, F> {
  key: QueryKey;
  filter: F;
  page: ListPage<T>;
}

function cachedPages<T, F>(client: QueryClient, kind: 'jobs' | 'assets'): CachedPage<T, F>[] {
  return client
    .getQueryCache()
    .findAll({ queryKey: [kind, 'list'] })
    .flatMap((query) => {
      const page = query.state.data as ListPage<T> | undefined;
      return page ? [{ key: query.queryKey, filter: query.queryKey[2] as F, page }] : [];
    });
}

/** Replaces what is cached; does not begin to cache what nobody asked for. */
function writeKnown(client: QueryClient, key: QueryKey, value: unknown): void {
  if (client.getQueryState(key)) client.setQueryData(key, value);
}

/**
 * An answer that is under way may tell what was before the event, and come after it: what it would
 * leave wrong for good is asked for again.
 */
function doubtAnswers(client: QueryClient, queryKey: QueryKey, markStale: MarkStale): void {
  const asked = client.getQueryCache().findAll({ queryKey, fetchStatus: 'fetching' });
  for (const query of asked) markStale(query.queryKey);
}

function writeJobs(client: QueryClient, jobs: Map<string, Job>, markStale: MarkStale): void {
  for (const job of jobs.values()) {
    writeKnown(client, keys.job(job.id), job);
    // Of a job that goes on the next event tells more; of one that ended none comes.
    if (isFinal(job)) {
      doubtAnswers(client, keys.job(job.id), markStale);
      doubtAnswers(client, ['jobs', 'list'], markStale);
    }
    if (job.state !== 'running') progressStore.remove(job.id);
  }
  const seen = new Map<string, Set<string>>();
  for (const { key, filter, page } of cachedPages<Job, JobFilter>(client, 'jobs')) {
    const list = JSON.stringify(filter);
    const found = seen.get(list) ?? new Set<string>();
    seen.set(list, found);
    let isChanged = false;
    const items = page.items.map((item) => {
      const job = jobs.get(item.id);
      if (!job) return item;
      found.add(job.id);
      if (!matchesJobFilter(filter, job)) markStale(keys.jobList(filter));
      isChanged = true;
      return job;
    });
    if (isChanged) client.setQueryData<ListPage<Job>>(key, { ...page, items });
  }
  // Jobs that no loaded page holds: new ones, or on a page that is not loaded.
  for (const [list, found] of seen) {
    const filter = JSON.parse(list) as JobFilter;
    const hasStates = Boolean(filter.states?.length || filter.active);
    for (const job of jobs.values()) {
      if (found.has(job.id)) continue;
      const isNew = job.epoch === 0 && job.state === 'queued';
      if (filter.batch && filter.batch !== job.batch) continue;
      if (filter.session && filter.session !== job.session) continue;
      if (hasStates || isNew) markStale(keys.jobList(filter));
    }
  }
}

function writeAssets(client: QueryClient, assets: Map<string, Asset>, markStale: MarkStale): void {
  for (const asset of assets.values()) writeKnown(client, keys.asset(asset.id), asset);
  const seen = new Map<string, Set<string>>();
  for (const { key, filter, page } of cachedPages<Asset, AssetFilter>(client, 'assets')) {
    const list = JSON.stringify(filter);
    const found = seen.get(list) ?? new Set<string>();
    seen.set(list, found);
    let isChanged = false;
    const items = page.items.map((item) => {
      const asset = assets.get(item.id);
      if (!asset) return item;
      found.add(asset.id);
      if (!matchesAssetFilter(filter, asset)) markStale(keys.assetList(filter));
      isChanged = true;
      return asset;
    });
    if (isChanged) client.setQueryData<ListPage<Asset>>(key, { ...page, items });
  }
  for (const [list, found] of seen) {
    const filter = JSON.parse(list) as AssetFilter;
    for (const asset of assets.values()) {
      if (found.has(asset.id)) continue;
      // New, trashed or restored: where it matches it comes in, where it does not it may go out.
      if (matchesAssetFilter(filter, asset) || asset.trashed_at !== null || filter.trashed) {
        markStale(keys.assetList(filter));
      }
    }
  }
}

/** Replaces the member with that id in a cached list; a new one makes the list stale. */
function writeMember<T extends { id: string }>(
  client: QueryClient,
  key: QueryKey,
  member: T,
  markStale: MarkStale,
): void {
  const list = client.getQueryData<ListPage<T>>(key);
  if (!list) return;
  if (!list.items.some((item) => item.id === member.id)) return markStale(key);
  client.setQueryData<ListPage<T>>(key, {
    ...list,
    items: list.items.map((item) => (item.id === member.id ? member : item)),
  });
}

type MarkStale = (key: QueryKey) => void;

const countOpen = (queue: QueueStatus) => queue.counts.queued + queue.counts.running;

/** What a request will cost depends on what it waits for, and on what was learnt since. */
function writeQueue(client: QueryClient, queue: QueueStatus, markStale: MarkStale): void {
  const before = client.getQueryData<QueueStatus>(keys.queue());
  client.setQueryData(keys.queue(), queue);
  if (before && countOpen(before) === countOpen(queue)) return;
  markStale(keys.preflights());
  // A long list is not read again for every job that ends.
  if (countOpen(queue) === 0) markStale(keys.bulkChecks());
}

/** Writes events into the cache; lists to be read again are handed to `markStale`. */
export function applyEvents(client: QueryClient, events: Event[], markStale: MarkStale): void {
  const jobs = new Map<string, Job>();
  const assets = new Map<string, Asset>();
  const batches = new Map<string, Batch>();
  const sessions = new Map<string, Session>();
  for (const event of events) {
    switch (event.type) {
      case 'job_progress':
        progressStore.set(event.progress);
        break;
      case 'job_changed':
        jobs.set(event.job.id, event.job);
        break;
      case 'job_removed':
        jobs.delete(event.job);
        progressStore.remove(event.job);
        markStale(['jobs']);
        break;
      case 'jobs_changed':
        markStale(['jobs']);
        markStale(['queue']);
        break;
      case 'asset_changed':
        assets.set(event.asset.id, event.asset);
        break;
      case 'asset_removed':
        assets.delete(event.asset);
        markStale(['assets']);
        break;
      case 'batch_changed':
        batches.set(event.batch.id, event.batch);
        break;
      case 'session_changed':
        sessions.set(event.session.id, event.session);
        break;
      case 'session_removed':
        markStale(keys.sessions());
        break;
      case 'queue_changed':
        writeQueue(client, event.queue, markStale);
        break;
      case 'models_changed':
        markStale(keys.models());
        break;
      case 'settings_changed':
        markStale(['settings']);
        markStale(keys.models()); // Which one is the default is a setting.
        break;
      case 'lagged':
        progressStore.clear();
        markStale([]);
        break;
    }
  }
  if (jobs.size) writeJobs(client, jobs, markStale);
  if (assets.size) writeAssets(client, assets, markStale);
  for (const { recipe } of assets.values()) {
    const { parent, source } = recipe.plan;
    const more = (source?.more_images ?? []).map(({ image }) => image.asset);
    const given = [source?.image.asset, source?.mask?.asset, source?.end_image?.asset, ...more];
    for (const id of [parent, ...given]) if (id) markStale(keys.relatives(id));
  }
  for (const batch of batches.values()) {
    writeKnown(client, keys.batch(batch.id), batch);
    writeMember(client, keys.batches(), batch, markStale);
  }
  for (const session of sessions.values()) {
    writeMember(client, keys.sessions(), session, markStale);
  }
}

/** Takes single events, applies them once per frame, and refreshes stale lists now and then. */
export class EventSink {
  private pending: Event[] = [];
  private isScheduled = false;
  private stale = new Map<string, QueryKey>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: QueryClient,
    private readonly schedule: (flush: () => void) => void = (flush) => {
      // Frames stop in a hidden tab; a timer does not.
      if (document.hidden) setTimeout(flush, 100);
      else requestAnimationFrame(flush);
    },
  ) {}

  push(events: Event[]): void {
    this.pending.push(...events);
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.schedule(() => this.flush());
  }

  /** Everything may have changed: the stream was cut. */
  refreshAll(): void {
    this.push([{ type: 'lagged' }]);
  }

  private flush(): void {
    this.isScheduled = false;
    const events = this.pending;
    this.pending = [];
    applyEvents(this.client, events, (key) => {
      this.stale.set(JSON.stringify(key), key);
      this.timer ??= setTimeout(() => this.refresh(), REFRESH_MS);
    });
  }

  private refresh(): void {
    this.timer = undefined;
    const stale = [...this.stale.values()];
    this.stale.clear();
    for (const queryKey of stale) void this.client.invalidateQueries({ queryKey });
  }
}
