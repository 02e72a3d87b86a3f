// Which run a page shows. Kept across reloads, so that a reload mid-job goes on following.
import { createStoredStore } from './store';

export interface Followed {
  batch: string;
  /** The job on the stage; null: whichever of the batch is running, or its first. */
  job: string | null;
}

function readFollowed(stored: unknown): Followed | null {
  if (typeof stored !== 'object' || stored === null) return null;
  const { batch, job } = stored as Record<string, unknown>;
  if (typeof batch !== 'string') return null;
  return { batch, job: typeof job === 'string' ? job : null };
}

/** On the Create page. */
export const followedStore = createStoredStore<Followed | null>('kinora.followed', readFollowed);

/** On the Video page. */
export const followedClipStore = createStoredStore<Followed | null>(
  'kinora.followed-clip',
  readFollowed,
);
