// What pages read from the server.
import {
  keepPreviousData,
  useQueries,
  useQuery,
  type QueryClient,
  type QueryKey,
} from '@tanstack/react-query';
import { useState } from 'react';

import { call } from './client';
import {
  assetQuery,
  cleanFilter,
  keys,
  PAGE_SIZE,
  type AssetFilter,
  type JobFilter,
  type ListPage,
} from './keys';
import type {
  Asset,
  Batch,
  BulkInput,
  Job,
  LogQuery,
  Model,
  PreviewInput,
  RequestInput,
  Session,
} from './types';

export function useModels() {
  return useQuery({ queryKey: keys.models(), queryFn: () => call('models_list', {}) });
}

/** The files of adapters. People add some while the app is open, so each look is a new one. */
export function useLoras(isWanted = true) {
  return useQuery({
    queryKey: keys.loras(),
    queryFn: () => call('loras_list', {}),
    enabled: isWanted,
    staleTime: 0,
  });
}

/** What of an adapter's file fits a model. */
export function useLoraCheck(model: string, name: string) {
  return useQuery({
    queryKey: keys.loraCheck(model, name),
    queryFn: () => call('loras_check', { model, name }),
  });
}

/** The parts of a model and the files that fit them. People add some while the app is open. */
export function useModelParts(model: string, isWanted: boolean) {
  return useQuery({
    queryKey: keys.modelParts(model),
    queryFn: () => call('models_components', { id: model }),
    enabled: isWanted,
    staleTime: 0,
  });
}

/** The model of that name, or the one that a request without a model gets. */
export function useModel(id: string | null | undefined): Model | undefined {
  const { data } = useModels();
  return (
    data?.models.find((model) => model.id === id) ??
    data?.models.find((model) => model.id === data.default) ??
    data?.models[0]
  );
}

export function useQueue() {
  return useQuery({ queryKey: keys.queue(), queryFn: () => call('queue_status', {}) });
}

export function useJob(id: string | null | undefined) {
  return useQuery({
    queryKey: keys.job(id ?? ''),
    queryFn: () => call('jobs_get', { id: id! }),
    enabled: Boolean(id),
  });
}

export function useAsset(id: string | null | undefined) {
  return useQuery({
    queryKey: keys.asset(id ?? ''),
    queryFn: () => call('assets_get', { id: id! }),
    enabled: Boolean(id),
  });
}

/** What a result was made from, and what was made from it. */
export function useRelatives(id: string) {
  return useQuery({
    queryKey: keys.relatives(id),
    queryFn: () => call('assets_relatives', { id }),
    staleTime: 0,
  });
}

export function useBatches() {
  return useQuery({
    queryKey: keys.batches(),
    queryFn: async (): Promise<ListPage<Batch>> => {
      const { batches, total } = await call('batches_list', { limit: 1000 });
      return { items: batches, total };
    },
  });
}

export function useBatch(id: string | null | undefined) {
  return useQuery({
    queryKey: keys.batch(id ?? ''),
    queryFn: () => call('batches_get', { id: id! }),
    enabled: Boolean(id),
  });
}

export function useSessions() {
  return useQuery({
    queryKey: keys.sessions(),
    queryFn: async (): Promise<ListPage<Session>> => {
      const { sessions, total } = await call('sessions_list', { limit: 1000 });
      return { items: sessions, total };
    },
  });
}

export function useSettings() {
  return useQuery({ queryKey: keys.settings(), queryFn: () => call('settings_get', {}) });
}

export function useConfig() {
  return useQuery({ queryKey: keys.config(), queryFn: () => call('config_show', {}) });
}

export function useCleanupStatus() {
  return useQuery({
    queryKey: keys.cleanup(),
    queryFn: () => call('cleanup_status', {}),
    staleTime: 30_000,
  });
}

/** The machine, live. Loads are measured, not announced, so this one asks again while it is shown. */
export function useSystem(isLive = false) {
  return useQuery({
    queryKey: keys.system(),
    queryFn: () => call('system_info', {}),
    refetchInterval: isLive ? 1500 : false,
    staleTime: 0,
  });
}

export function useLogs(query: LogQuery, isLive: boolean) {
  return useQuery({
    queryKey: keys.logs(query),
    queryFn: () => call('system_logs', query),
    refetchInterval: isLive ? 2000 : false,
    placeholderData: keepPreviousData,
    staleTime: 0,
  });
}

/** What a request would do, and which request that was: the last answer stays while the next is
 * awaited. `null`: nothing to ask yet. */
export function usePreflight(request: RequestInput | null) {
  return useQuery({
    queryKey: [...keys.preflights(), request],
    queryFn: async () => ({ ...(await call('jobs_preflight', request!)), asked: request! }),
    enabled: request !== null,
    placeholderData: keepPreviousData,
    staleTime: 5000,
    gcTime: 10_000,
  });
}

/** What a prompt with choices becomes. `null`: nothing to ask. */
export function usePromptPreview(input: PreviewInput | null) {
  return useQuery({
    queryKey: [...keys.promptPreviews(), input],
    queryFn: () => call('prompts_preview', input!),
    enabled: input !== null,
    placeholderData: keepPreviousData,
    staleTime: 5000,
    gcTime: 10_000,
  });
}

export function useWildcards() {
  // Files may be put into the folder behind our back.
  return useQuery({
    queryKey: keys.wildcards(),
    queryFn: () => call('wildcards_list', {}),
    staleTime: 0,
  });
}

/** One list with its lines, read anew whenever it is opened. */
export function useWildcard(name: string | null) {
  return useQuery({
    queryKey: keys.wildcard(name ?? ''),
    queryFn: () => call('wildcards_get', { name: name! }),
    enabled: name !== null,
    staleTime: 0,
    gcTime: 0,
  });
}

export function useBulkCheck(input: BulkInput | null) {
  return useQuery({
    queryKey: [...keys.bulkChecks(), input],
    queryFn: () => call('bulk_check', input!),
    enabled: input !== null,
    placeholderData: keepPreviousData,
    staleTime: 5000,
    gcTime: 5000,
  });
}

/** The rows of a long list that are on screen, and how many there are in all. */
export interface Windowed<T> {
  total: number;
  at(index: number): T | undefined;
  isLoading: boolean;
  error: Error | null;
  refetch(): void;
  /** The filter whose rows these are: the last one while a new one is on its way. */
  isPrevious: boolean;
}

interface ListSource<T, F> {
  /** `null`: nothing to ask yet. */
  filter: F | null;
  pageKey(filter: F, page: number): QueryKey;
  read(filter: F, offset: number, limit: number): Promise<ListPage<T>>;
}

/** Reads only the pages of a list that lie between `first` and `last`. */
function useWindowed<T, F extends object>(
  source: ListSource<T, F>,
  first: number,
  last: number,
): Windowed<T> {
  const isWanted = source.filter !== null;
  const wanted = cleanFilter(source.filter ?? ({} as F));
  const [shown, setShown] = useState(wanted);
  const head = useQuery({
    queryKey: source.pageKey(wanted, 0),
    queryFn: () => source.read(wanted, 0, PAGE_SIZE),
    enabled: isWanted,
  });
  const isSame = JSON.stringify(wanted) === JSON.stringify(shown);
  if (!isSame && (head.data || head.error)) setShown(wanted);
  const filter = isSame || head.data ? wanted : shown;

  const from = Math.max(0, Math.floor(first / PAGE_SIZE));
  const to = Math.max(from, Math.floor(last / PAGE_SIZE));
  const pages = [0, ...Array.from({ length: to - from + 1 }, (_, i) => from + i)].filter(
    (page, index, all) => all.indexOf(page) === index,
  );
  const results = useQueries({
    queries: pages.map((page) => ({
      queryKey: source.pageKey(filter, page),
      queryFn: () => source.read(filter, page * PAGE_SIZE, PAGE_SIZE),
      enabled: isWanted,
      gcTime: 60_000,
    })),
  });
  const newest = results.reduce((best, result) =>
    result.data && (!best.data || result.dataUpdatedAt > best.dataUpdatedAt) ? result : best,
  );
  return {
    total: newest.data?.total ?? 0,
    at: (index) =>
      results[pages.indexOf(Math.floor(index / PAGE_SIZE))]?.data?.items[index % PAGE_SIZE],
    isLoading: !newest.data && !newest.error,
    error: head.error ?? newest.error ?? null,
    refetch: () => results.forEach((result) => void result.refetch()),
    isPrevious: filter !== wanted,
  };
}

async function readJobs(filter: JobFilter, offset: number, limit: number): Promise<ListPage<Job>> {
  const { jobs, total } = await call('jobs_list', { ...filter, offset, limit });
  return { items: jobs, total };
}

export async function readAssets(
  filter: AssetFilter,
  offset: number,
  limit: number,
): Promise<ListPage<Asset>> {
  const { assets, total } = await call('assets_list', assetQuery(filter, offset, limit));
  return { items: assets, total };
}

export function useJobWindow(filter: JobFilter | null, first: number, last: number): Windowed<Job> {
  return useWindowed({ filter, pageKey: keys.jobPage, read: readJobs }, first, last);
}

export function useAssetWindow(filter: AssetFilter, first: number, last: number): Windowed<Asset> {
  return useWindowed({ filter, pageKey: keys.assetPage, read: readAssets }, first, last);
}

/** The picture at a place of a list, read when it is not loaded yet. */
export async function assetIdAt(
  client: QueryClient,
  filter: AssetFilter,
  index: number,
): Promise<string | undefined> {
  const wanted = cleanFilter(filter);
  const page = Math.floor(index / PAGE_SIZE);
  const { items } = await client.fetchQuery({
    queryKey: keys.assetPage(wanted, page),
    queryFn: () => readAssets(wanted, page * PAGE_SIZE, PAGE_SIZE),
  });
  return items[index % PAGE_SIZE]?.id;
}
