// The list on the Bulk page, outside of it: a file can be dropped on any page.
import { emptyDraft, readDraft, type Draft } from './draft';
import { createStoredStore } from './store';

export interface BulkDraft {
  text: string;
  name: string;
  combine: 'product' | 'zip';
  defaults: Draft;
  /** Pictures that rows name, by the names that they are named by: their references. */
  pictures: Record<string, string>;
  /** Whether each row is made as a draft first. */
  isDraft: boolean;
}

export const emptyBulk: BulkDraft = {
  text: '',
  name: '',
  combine: 'product',
  defaults: emptyDraft,
  pictures: {},
  isDraft: false,
};

function readPictures(stored: unknown): Record<string, string> {
  if (typeof stored !== 'object' || stored === null) return {};
  return Object.fromEntries(
    Object.entries(stored).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );
}

export const bulkStore = createStoredStore<BulkDraft>('kinora.list', (stored) => {
  if (typeof stored !== 'object' || stored === null) return emptyBulk;
  const { text, name, combine, defaults, pictures, isDraft } = stored as Record<string, unknown>;
  return {
    text: typeof text === 'string' ? text : '',
    name: typeof name === 'string' ? name : '',
    combine: combine === 'zip' ? 'zip' : 'product',
    defaults: readDraft(defaults),
    pictures: readPictures(pictures),
    isDraft: isDraft === true,
  };
});

export function updateBulk(change: Partial<BulkDraft>): void {
  bulkStore.set((now) => ({ ...now, ...change }));
}

/** The largest list that is taken from a file; the server has the last word. */
export const LARGEST_LIST = 32 * 1024 * 1024;

export const isListFile = (name: string) => /\.(csv|tsv|txt|jsonl|ndjson|json)$/i.test(name);

/** A cell of a list as CSV writes it. */
const cell = (text: string) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** A list with one row for each picture, for which words can be written. */
export function listOfPictures(names: string[]): string {
  return ['image,prompt', ...names.map((name) => `${cell(name)},`), ''].join('\n');
}
