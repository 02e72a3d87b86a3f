// Which run the Create page shows. Kept across reloads, so that a reload mid-job goes on following.
import { createStoredStore } from '@/lib/store';

export interface Followed {
  batch: string;
  /** The job on the stage; null: whichever of the batch is running, or its first. */
  job: string | null;
}

export const followedStore = createStoredStore<Followed | null>('kinora.followed', (stored) => {
  if (typeof stored !== 'object' || stored === null) return null;
  const { batch, job } = stored as Record<string, unknown>;
  if (typeof batch !== 'string') return null;
  return { batch, job: typeof job === 'string' ? job : null };
});
