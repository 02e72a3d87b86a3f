// What a model can do with what the form holds, from its capabilities alone.
import type { Capabilities, ClipFormat, FileFormat, Mode, Model, Settings } from '@/api/types';
import { formatName } from '@/components/player/kind';
import type { Option } from '@/components/ui/Select';
import { emptyVideo, type Draft, type DraftLora } from '@/lib/draft';

const FROM_PICTURES: Mode[] = ['image_to_image', 'edit', 'control', 'variation', 'image_to_video'];
const FROM_WORDS: Mode[] = ['text_to_image', 'text_to_video'];

/** Whether it takes a picture to start from at all. */
export const takesImage = ({ modes }: Capabilities): boolean =>
  modes.some((mode) => mode === 'inpaint' || FROM_PICTURES.includes(mode));

/** Whether it makes nothing without one. */
export const needsImage = (capabilities: Capabilities): boolean =>
  takesImage(capabilities) && !capabilities.modes.some((mode) => FROM_WORDS.includes(mode));

/** Whether it makes clips at all. */
export const makesClips = ({ modes }: Capabilities): boolean => modes.some(isVideo);

/** Whether it makes clips that begin with a picture. */
export const animates = ({ modes }: Capabilities): boolean => modes.includes('image_to_video');

/** Whether a request may name it. */
export const isUsable = (model: Model): boolean => model.is_installed && model.fault === null;

/** The kind of work that a request is, in the server's order; undefined: the model cannot do it. */
export function modeOf(
  { modes }: Capabilities,
  { image, mask }: Pick<Draft, 'image' | 'mask'>,
): Mode | undefined {
  if (image !== null && mask !== null && modes.includes('inpaint')) return 'inpaint';
  const wanted = image === null ? FROM_WORDS : FROM_PICTURES;
  return wanted.find((mode) => modes.includes(mode));
}

function isVideo(mode: Mode | undefined): boolean {
  return mode === 'text_to_video' || mode === 'image_to_video';
}

/** Whether what it makes moves. Without a picture that the model needs, what it would make with it. */
export function makesClip(capabilities: Capabilities, draft: Draft): boolean {
  if (!capabilities.video) return false;
  const mode = modeOf(capabilities, draft);
  return mode ? isVideo(mode) : capabilities.modes.every(isVideo);
}

/** Whether the strength has a meaning. */
export function hasStrength(capabilities: Capabilities, draft: Draft): boolean {
  if (!capabilities.strength || draft.image === null) return false;
  const mode = modeOf(capabilities, draft);
  return mode === undefined || ['image_to_image', 'inpaint', 'variation'].includes(mode);
}

/** Whether the picture of the form says enough: no words are needed. */
export function isPictureEnough(capabilities: Capabilities, draft: Draft): boolean {
  if (draft.image === null) return false;
  const mode = modeOf(capabilities, draft);
  return mode === 'variation' || mode === 'image_to_video';
}

/** The files without experts where there is one network. */
const fitLoras = (loras: DraftLora[], { video }: Capabilities): DraftLora[] =>
  video?.experts ? loras : loras.map(({ name, weight }) => ({ name, weight }));

/**
 * The form without what this model has no field for: it stays in the form for another model, and
 * no request carries what nobody sees.
 */
export function fitDraft(draft: Draft, capabilities: Capabilities): Draft {
  const image = takesImage(capabilities) ? draft.image : null;
  const mask = image !== null && capabilities.modes.includes('inpaint') ? draft.mask : null;
  const more_images =
    image !== null ? draft.more_images.slice(0, capabilities.more_images ?? 0) : [];
  const fitted = { ...draft, image, more_images, mask };
  const isClip = makesClip(capabilities, fitted);
  const rule = isClip ? capabilities.video : null;
  const { video } = draft;
  const isFormatOfKind = draft.format === null || isClipFormat(draft.format) === isClip;
  return {
    ...fitted,
    strength: hasStrength(capabilities, fitted) ? draft.strength : null,
    step_cache: capabilities.step_cache ? draft.step_cache : null,
    loras: capabilities.loras ? fitLoras(draft.loras, capabilities) : [],
    format: isFormatOfKind ? draft.format : null,
    video: rule
      ? {
          frames: video.frames,
          seconds: video.frames === null ? video.seconds : null,
          fps: video.fps,
          end_image: rule.end_image && image !== null ? video.end_image : null,
          cfg_2: rule.experts ? video.cfg_2 : null,
          low_share: rule.experts && video.boundary === null ? video.low_share : null,
          boundary: rule.experts ? video.boundary : null,
          shift: rule.shift ? video.shift : null,
          sound: rule.sound ? video.sound : null,
          context_frames: rule.context ? video.context_frames : null,
          context_overlap:
            rule.context && video.context_frames !== null ? video.context_overlap : null,
          vae_tiling: rule.vae_tiling ? video.vae_tiling : null,
        }
      : emptyVideo,
  };
}

export const pictureFormats: Option<string>[] = [
  { value: 'png', label: 'PNG', detail: 'lossless' },
  { value: 'jpeg', label: 'JPEG', detail: 'smaller' },
  { value: 'webp', label: 'WebP', detail: 'smallest' },
];

const CLIP_DETAILS: Record<ClipFormat, string> = {
  mp4: 'plays everywhere',
  mp4_h265: 'smaller',
  mp4_av1: 'smallest',
  webm: 'for the web',
  gif: '256 colours',
  animated_webp: 'silent',
  frames: 'lossless',
};

export const clipFormats: Option<string>[] = Object.entries(CLIP_DETAILS).map(
  ([value, detail]) => ({ value, label: formatName(value as FileFormat), detail }),
);

function isClipFormat(format: string): boolean {
  return format in CLIP_DETAILS;
}

/** The format of a request that names none. */
export function usualFormat(
  capabilities: Capabilities,
  draft: Draft,
  settings: Settings | undefined,
): string {
  return makesClip(capabilities, draft)
    ? (settings?.clip_format ?? 'mp4')
    : (settings?.format ?? 'png');
}
