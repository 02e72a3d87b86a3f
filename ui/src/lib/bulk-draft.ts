// The list on the Bulk page, outside of it: a file can be dropped on any page.
import { emptyDraft, readDraft, type Draft } from './draft';
import { createStoredStore } from './store';

export interface BulkDraft {
  text: string;
  name: string;
  combine: 'product' | 'zip';
  defaults: Draft;
}

const emptyBulk: BulkDraft = { text: '', name: '', combine: 'product', defaults: emptyDraft };

export const bulkStore = createStoredStore<BulkDraft>('kinora.list', (stored) => {
  if (typeof stored !== 'object' || stored === null) return emptyBulk;
  const { text, name, combine, defaults } = stored as Record<string, unknown>;
  return {
    text: typeof text === 'string' ? text : '',
    name: typeof name === 'string' ? name : '',
    combine: combine === 'zip' ? 'zip' : 'product',
    defaults: readDraft(defaults),
  };
});

export function updateBulk(change: Partial<BulkDraft>): void {
  bulkStore.set((now) => ({ ...now, ...change }));
}

/** The largest list that is taken from a file; the server has the last word. */
export const LARGEST_LIST = 32 * 1024 * 1024;

export const isListFile = (name: string) => /\.(csv|tsv|txt|jsonl|ndjson|json)$/i.test(name);
