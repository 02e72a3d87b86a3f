// The keys of everything in the cache. The first word is the command table's tag.
import type { AssetKind, AssetQuery, AssetSort, JobState } from './types';

export interface JobFilter {
  states?: JobState[];
  session?: string;
  batch?: string;
  active?: boolean;
}

export interface AssetFilter {
  search?: string;
  kind?: AssetKind;
  model?: string;
  session?: string;
  batch?: string;
  trashed?: boolean;
  sort?: AssetSort;
}

/** One page of a long list as it lies in the cache. */
export interface ListPage<T> {
  items: T[];
  total: number;
}

/** Items on one page of a long list. */
export const PAGE_SIZE = 60;

export const keys = {
  job: (id: string) => ['jobs', 'one', id] as const,
  jobList: (filter: JobFilter) => ['jobs', 'list', filter] as const,
  jobPage: (filter: JobFilter, page: number) => ['jobs', 'list', filter, page] as const,
  asset: (id: string) => ['assets', 'one', id] as const,
  relatives: (id: string) => ['assets', 'relatives', id] as const,
  assetList: (filter: AssetFilter) => ['assets', 'list', filter] as const,
  assetPage: (filter: AssetFilter, page: number) => ['assets', 'list', filter, page] as const,
  queue: () => ['queue'] as const,
  batches: () => ['batches', 'list'] as const,
  batch: (id: string) => ['batches', 'one', id] as const,
  sessions: () => ['sessions'] as const,
  models: () => ['models'] as const,
  loras: () => ['models', 'loras'] as const,
  loraCheck: (model: string, name: string) => ['models', 'lora-check', model, name] as const,
  modelParts: (model: string) => ['models', 'parts', model] as const,
  settings: () => ['settings', 'chosen'] as const,
  config: () => ['settings', 'config'] as const,
  system: () => ['system', 'info'] as const,
  logs: (query: object) => ['system', 'logs', query] as const,
  cleanup: () => ['cleanup'] as const,
  wildcards: () => ['wildcards', 'list'] as const,
  wildcard: (name: string) => ['wildcards', 'one', name] as const,
  // What a prompt becomes depends on the lists that it names.
  promptPreviews: () => ['wildcards', 'preview'] as const,
  preflights: () => ['preflight'] as const,
  bulkChecks: () => ['bulk-check'] as const,
};

/** Leaves out what is not set, so that equal filters have equal keys. */
export function cleanFilter<T extends object>(filter: T): T {
  return Object.fromEntries(
    Object.entries(filter).filter(([, value]) => value !== undefined && value !== '' && value),
  ) as T;
}

export function assetQuery(filter: AssetFilter, offset: number, limit: number): AssetQuery {
  return { ...filter, offset, limit };
}
