// The forms of the Create and the Video page, outside of them: any page can put settings into them
// ("use settings"). Only what the user chose is set; everything else is the model's default.
import { asTyped } from './format';
import { createStoredStore } from './store';

/** An adapter file that is wanted, by its name in the folder of LoRA files. */
export interface DraftLora {
  name: string;
  weight: number;
  /** The one of two networks that it changes; absent: all of them. */
  expert?: Expert;
}

/** A picture besides the first. */
export interface DraftImage {
  image: string;
  /** How much it counts; `null`: as much as the first. */
  strength: number | null;
}

/** One of the two networks that share the steps of some models. */
export type Expert = 'high' | 'low';

const isExpert = (value: unknown): value is Expert => value === 'high' || value === 'low';

/** What only clips have. */
export interface DraftVideo {
  frames: number | null;
  seconds: number | null;
  fps: number | null;
  end_image: string | null;
  cfg_2: number | null;
  low_share: number | null;
  boundary: number | null;
  shift: number | null;
  /** `null`: where the model makes any. */
  sound: boolean | null;
  /** Frames of the windows that a longer clip goes through; `null`: none. */
  context_frames: number | null;
  context_overlap: number | null;
  /** `null`: where the whole does not fit into memory. */
  vae_tiling: boolean | null;
}

/**
 * The members of a request that the form holds. Seeds may be decimal strings beyond 2^53. Pictures
 * are references: `asset:` with the id of a result, `input:` with the digest of a file.
 */
export interface Draft {
  prompt: string;
  negative_prompt: string;
  /** What becomes of choices; `null`: each picture draws its own words. */
  expansion: string | null;
  model: string | null;
  /** Files for parts of the model instead of its own, by the part's name. */
  components: Record<string, string>;
  width: number | null;
  height: number | null;
  steps: number | null;
  guidance: number | null;
  true_cfg: number | null;
  step_cache: number | null;
  seed: number | string | null;
  rng: string | null;
  copies: number | null;
  sampler: string | null;
  schedule: string | null;
  output_name: string | null;
  format: string | null;
  session: string | null;
  image: string | null;
  more_images: DraftImage[];
  mask: string | null;
  strength: number | null;
  loras: DraftLora[];
  video: DraftVideo;
}

export const emptyVideo: DraftVideo = {
  frames: null,
  seconds: null,
  fps: null,
  end_image: null,
  cfg_2: null,
  low_share: null,
  boundary: null,
  shift: null,
  sound: null,
  context_frames: null,
  context_overlap: null,
  vae_tiling: null,
};

export const emptyDraft: Draft = {
  prompt: '',
  negative_prompt: '',
  expansion: null,
  model: null,
  components: {},
  width: null,
  height: null,
  steps: null,
  guidance: null,
  true_cfg: null,
  step_cache: null,
  seed: null,
  rng: null,
  copies: null,
  sampler: null,
  schedule: null,
  output_name: null,
  format: null,
  session: null,
  image: null,
  more_images: [],
  mask: null,
  strength: null,
  loras: [],
  video: emptyVideo,
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readLoras(stored: unknown): DraftLora[] {
  if (!Array.isArray(stored)) return [];
  return stored.flatMap((item) => {
    if (!isObject(item) || typeof item.name !== 'string' || !item.name) return [];
    return [
      {
        name: item.name,
        weight: typeof item.weight === 'number' ? asTyped(item.weight) : 1,
        ...(isExpert(item.expert) && { expert: item.expert }),
      },
    ];
  });
}

function readImages(stored: unknown): DraftImage[] {
  if (!Array.isArray(stored)) return [];
  return stored.flatMap((item) => {
    if (!isObject(item) || typeof item.image !== 'string' || !item.image) return [];
    const { image, strength } = item;
    return [{ image, strength: typeof strength === 'number' ? asTyped(strength) : null }];
  });
}

function readComponents(stored: unknown): Record<string, string> {
  if (!isObject(stored)) return {};
  return Object.fromEntries(
    Object.entries(stored).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== '',
    ),
  );
}

function readVideo(stored: unknown): DraftVideo {
  if (!isObject(stored)) return emptyVideo;
  const video: Record<string, unknown> = { ...emptyVideo };
  for (const key of Object.keys(emptyVideo)) {
    const value = stored[key];
    const kind =
      key === 'end_image'
        ? 'string'
        : key === 'sound' || key === 'vae_tiling'
          ? 'boolean'
          : 'number';
    if (typeof value === kind) video[key] = typeof value === 'number' ? asTyped(value) : value;
  }
  return video as unknown as DraftVideo;
}

/** A draft from anything that has members of that name and kind. */
export function readDraft(stored: unknown): Draft {
  if (!isObject(stored)) return emptyDraft;
  const draft: Record<string, unknown> = { ...emptyDraft };
  for (const key of Object.keys(emptyDraft)) {
    const value = stored[key];
    if (key === 'loras') {
      draft.loras = readLoras(value);
      continue;
    }
    if (key === 'more_images') {
      draft.more_images = readImages(value);
      continue;
    }
    if (key === 'components') {
      draft.components = readComponents(value);
      continue;
    }
    if (key === 'video') {
      draft.video = readVideo(value);
      continue;
    }
    const isText = key === 'prompt' || key === 'negative_prompt';
    if (isText ? typeof value === 'string' : ['string', 'number'].includes(typeof value)) {
      draft[key] = typeof value === 'number' ? asTyped(value) : value;
    }
  }
  return draft as unknown as Draft;
}

export const draftStore = createStoredStore<Draft>('kinora.draft', readDraft);

/** The form of the Video page. */
export const clipDraftStore = createStoredStore<Draft>('kinora.clip', readDraft);

export function updateClip(change: Partial<Draft>): void {
  clipDraftStore.set((now) => ({ ...now, ...change }));
}

export function updateDraft(change: Partial<Draft>): void {
  draftStore.set((now) => ({ ...now, ...change }));
}

/** Puts the settings of a result into its form, a clip's into that of the Video page; the session stays the one at work. Answers with the form's page. */
export function loadSettings(settings: object): '/create' | '/video' {
  // What is written out in full names every member of a clip, and for a picture sets none.
  const { video } = settings as { video?: unknown };
  const isClip = isObject(video) && Object.keys(chosen(video)).length > 0;
  const store = isClip ? clipDraftStore : draftStore;
  store.set((now) => ({ ...readDraft(settings), session: now.session }));
  return isClip ? '/video' : '/create';
}

/** Another model; files for parts were chosen for the one before. */
export function chooseModel(model: string | null): Pick<Draft, 'model' | 'components'> {
  return { model, components: {} };
}

/** Another picture to start from; a mask belongs to the one that it was painted over. */
export function startFrom(
  image: string | null,
): Pick<Draft, 'image' | 'mask' | 'width' | 'height'> {
  return { image, mask: null, width: null, height: null };
}

/** Without the first picture, which the next one takes the place of where there is one. */
export function withoutFirst({ more_images }: Draft): Partial<Draft> {
  const [next, ...rest] = more_images;
  return next
    ? { ...startFrom(next.image), strength: next.strength, more_images: rest }
    : startFrom(null);
}

/** The members that are set. */
const chosen = (members: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null && value !== ''));

/** The members that are set, as a request. */
export function draftRequest({
  components,
  loras,
  video,
  more_images,
  ...draft
}: Draft): Record<string, unknown> {
  const ofClip = chosen(video);
  return {
    ...chosen(draft),
    ...(Object.keys(components).length ? { components } : {}),
    ...(more_images.length ? { more_images: more_images.map(chosen) } : {}),
    ...(loras.length ? { loras } : {}),
    ...(Object.keys(ofClip).length ? { video: ofClip } : {}),
  };
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
