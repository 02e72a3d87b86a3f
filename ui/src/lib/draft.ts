// The form of the Create page, outside of it: any page can put settings into it ("use settings").
// Only what the user chose is set; everything else is the model's default.
import { createStoredStore } from './store';

/** The members of a request that the form holds. Seeds may be decimal strings beyond 2^53. */
export interface Draft {
  prompt: string;
  negative_prompt: string;
  /** What becomes of choices; `null`: each picture draws its own words. */
  expansion: string | null;
  model: string | null;
  width: number | null;
  height: number | null;
  steps: number | null;
  guidance: number | null;
  true_cfg: number | null;
  seed: number | string | null;
  rng: string | null;
  copies: number | null;
  sampler: string | null;
  schedule: string | null;
  output_name: string | null;
  format: string | null;
  session: string | null;
}

export const emptyDraft: Draft = {
  prompt: '',
  negative_prompt: '',
  expansion: null,
  model: null,
  width: null,
  height: null,
  steps: null,
  guidance: null,
  true_cfg: null,
  seed: null,
  rng: null,
  copies: null,
  sampler: null,
  schedule: null,
  output_name: null,
  format: null,
  session: null,
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A draft from anything that has members of that name and kind. */
export function readDraft(stored: unknown): Draft {
  if (!isObject(stored)) return emptyDraft;
  const draft: Record<string, unknown> = { ...emptyDraft };
  for (const key of Object.keys(emptyDraft)) {
    const value = stored[key];
    const isText = key === 'prompt' || key === 'negative_prompt';
    if (isText ? typeof value === 'string' : ['string', 'number'].includes(typeof value)) {
      draft[key] = value;
    }
  }
  return draft as unknown as Draft;
}

export const draftStore = createStoredStore<Draft>('kinora.draft', readDraft);

export function updateDraft(change: Partial<Draft>): void {
  draftStore.set((now) => ({ ...now, ...change }));
}

/** Puts the settings of a picture into the form; the session stays the one at work. */
export function loadSettings(settings: object): void {
  draftStore.set((now) => ({ ...readDraft(settings), session: now.session }));
}

/** The members that are set, as a request. */
export function draftRequest(draft: Draft): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(draft).filter(([, value]) => value !== null && value !== ''),
  );
}

const HISTORY = 60;

export const promptHistory = createStoredStore<string[]>('kinora.prompts', (stored) =>
  Array.isArray(stored) ? stored.filter((item) => typeof item === 'string') : [],
);

export function rememberPrompt(prompt: string): void {
  const text = prompt.trim();
  if (!text) return;
  promptHistory.set((now) => [text, ...now.filter((item) => item !== text)].slice(0, HISTORY));
}
