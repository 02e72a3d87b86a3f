// The latest progress of running jobs. Kept beside the query cache, keyed by job, so that ten
// messages a second re-render one bar and not every list.
import { useSyncExternalStore } from 'react';

import type { JobId, Progress } from './types';

type Listener = () => void;

const latest = new Map<JobId, Progress>();
const listeners = new Map<JobId, Set<Listener>>();

function notify(job: JobId): void {
  for (const listener of [...(listeners.get(job) ?? [])]) listener();
}

export const progressStore = {
  get: (job: JobId): Progress | undefined => latest.get(job),
  /** Takes a message over, unless it belongs to an attempt that has been replaced. */
  set(progress: Progress): void {
    const now = latest.get(progress.job);
    if (now && now.epoch > progress.epoch) return;
    latest.set(progress.job, progress);
    notify(progress.job);
  },
  remove(job: JobId): void {
    if (latest.delete(job)) notify(job);
  },
  clear(): void {
    const jobs = [...latest.keys()];
    latest.clear();
    jobs.forEach(notify);
  },
  subscribe(job: JobId, listener: Listener): () => void {
    const set = listeners.get(job) ?? new Set<Listener>();
    listeners.set(job, set);
    set.add(listener);
    return () => {
      set.delete(listener);
      if (!set.size) listeners.delete(job);
    };
  },
};

/** The progress of one job; `initial` is what its last answer carried. */
export function useProgress(job: JobId | undefined, initial?: Progress | null): Progress | null {
  const live = useSyncExternalStore(
    (listener) => (job ? progressStore.subscribe(job, listener) : () => {}),
    () => (job ? progressStore.get(job) : undefined),
  );
  return live ?? initial ?? null;
}
