// What a studio in memory consists of, and telling who listens. What can be done with it is in the
// files beside this one, each a layer over the one before.
import { ApiError } from '@/api/error';
import type {
  Asset,
  Batch,
  Event,
  Job,
  JobState,
  Problem,
  QueueStatus,
  Session,
  Settings,
  StateCounts,
} from '@/api/types';

export type Fields = Record<string, unknown>;

export const noCounts = (): StateCounts => ({
  queued: 0,
  paused: 0,
  running: 0,
  done: 0,
  failed: 0,
  cancelled: 0,
});
export const FINAL: JobState[] = ['done', 'failed', 'cancelled'];

export interface MockOptions {
  /** Pictures in the gallery at the start. */
  assets?: number;
  /** Whether there is a past: sessions, batches, failed jobs. */
  history?: boolean;
  /** Whether jobs run by themselves; tests call `step` instead. */
  isAutomatic?: boolean;
  /** Every how many jobs one fails; 0: none. */
  failEvery?: number;
}

let counter = 0;
export function newId(): string {
  counter += 1;
  return `01900000-0000-7000-8000-${counter.toString(16).padStart(12, '0')}`;
}

export function refuse(
  code: Problem['code'],
  message: string,
  hint: string,
  field?: string,
): never {
  throw new ApiError({ code, message, hint, field });
}

export class MockState {
  readonly jobs = new Map<string, Job>();
  readonly batches = new Map<string, Batch>();
  readonly sessions = new Map<string, Session>();
  /** Newest first. A number is a picture that has not been asked for yet. */
  assets: (Asset | number)[] = [];
  /** Lists of options, by name. */
  readonly wildcards = new Map<string, string>();
  isPaused = false;
  settings: Settings = {
    theme: 'system',
    default_model: null,
    clip_model: null,
    default_copies: 1,
    output_template: '{date}/{prompt(50)}-{seed}',
    format: 'png',
    clip_format: 'mp4',
    max_log_entries: 2000,
    trash_days: 30,
  };
  protected readonly listeners = new Set<(events: Event[]) => void>();
  protected position = 0;
  protected started = 0;
  protected readonly startedAt = Date.now();

  constructor(protected readonly options: MockOptions = {}) {
    this.assets = Array.from({ length: options.assets ?? 0 }, (_, i) => i);
  }

  listen(listener: (events: Event[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  emit(...events: Event[]): void {
    // What is sent is what was true then, as over a real wire.
    const copy = structuredClone(events);
    for (const listener of this.listeners) listener(copy);
  }

  protected session(id: string | null | undefined, kind: Session['kind'], title: string): Session {
    const known = id && this.sessions.get(id);
    if (known) return known;
    const session: Session = {
      id: newId(),
      kind,
      title,
      counts: noCounts(),
      assets: 0,
      created_at: Date.now(),
      updated_at: Date.now(),
    };
    this.sessions.set(session.id, session);
    this.emit({ type: 'session_changed', session });
    return session;
  }

  protected recount(): void {
    for (const batch of this.batches.values()) batch.counts = noCounts();
    for (const session of this.sessions.values()) session.counts = noCounts();
    const retried = new Set([...this.jobs.values()].map((job) => job.retry_of));
    for (const job of this.jobs.values()) {
      if (retried.has(job.id)) continue;
      const batch = job.batch && this.batches.get(job.batch);
      if (batch) batch.counts[job.state] += 1;
      const session = job.session && this.sessions.get(job.session);
      if (session) session.counts[job.state] += 1;
    }
    for (const batch of this.batches.values()) {
      const left = batch.counts.queued + batch.counts.running;
      batch.eta_seconds = left ? left * 1.1 : null;
    }
  }

  status(): QueueStatus {
    const counts = noCounts();
    for (const job of this.jobs.values()) counts[job.state] += 1;
    const left = counts.queued + counts.running;
    return { is_paused: this.isPaused, counts, eta_seconds: left ? left * 1.1 : null };
  }
}
