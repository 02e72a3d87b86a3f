import { describe, expect, it } from 'vitest';

import { MODELS } from '#dev/mock/data';
import type { Capabilities, Mode } from '@/api/types';
import { emptyDraft, emptyVideo } from '@/lib/draft';
import {
  clipFormats,
  fitDraft,
  isPictureEnough,
  makesClip,
  modeOf,
  needsImage,
  takesImage,
} from './ability';
import { roundFrames } from './ClipFields';
import { isBlank, type MaskStep } from './mask';

const of = (id: string) => MODELS.find((model) => model.id === id)!.capabilities;
const withModes = (...modes: Mode[]): Capabilities => ({ ...of('starter'), modes });

describe('what a model can do', () => {
  it('is read from its kinds of work', () => {
    expect(takesImage(of('starter'))).toBe(true);
    expect(takesImage(of('flux-dev'))).toBe(false);
    expect(needsImage(of('starter'))).toBe(false);
    expect(needsImage(withModes('edit'))).toBe(true);
    expect(needsImage(withModes('text_to_image'))).toBe(false);
  });

  it('decides the kind of work as the server does', () => {
    const image = { image: 'input:a', mask: null };
    expect(modeOf(of('starter'), { image: null, mask: null })).toBe('text_to_image');
    expect(modeOf(of('starter'), image)).toBe('image_to_image');
    expect(modeOf(of('starter'), { ...image, mask: 'input:b' })).toBe('inpaint');
    expect(modeOf(withModes('text_to_image', 'edit'), image)).toBe('edit');
    expect(modeOf(of('flux-dev'), image)).toBeUndefined();
    expect(makesClip(of('wan-5b'), emptyDraft)).toBe(true);
    expect(makesClip(of('starter'), emptyDraft)).toBe(false);
  });

  it('knows when pictures say enough, and how many there may be', () => {
    const varied = { ...withModes('variation'), more_images: 1 };
    const draft = {
      ...emptyDraft,
      image: 'input:a',
      strength: 0.6,
      more_images: ['input:b', 'input:c'].map((image) => ({ image, strength: 0.4 })),
    };
    expect(needsImage(varied)).toBe(true);
    expect(isPictureEnough(varied, draft)).toBe(true);
    expect(isPictureEnough(varied, emptyDraft)).toBe(false);
    expect(isPictureEnough(of('starter'), draft)).toBe(false);
    expect(fitDraft(draft, varied)).toMatchObject({
      strength: 0.6,
      more_images: [{ image: 'input:b', strength: 0.4 }],
    });
    expect(fitDraft(draft, of('starter')).more_images).toEqual([]);
  });

  it('leaves out of a request what the model has no field for', () => {
    const draft = {
      ...emptyDraft,
      prompt: 'x',
      image: 'input:a',
      mask: 'input:b',
      strength: 0.3,
      format: 'gif',
      loras: [{ name: 'ink', weight: 1 }],
      video: { ...emptyVideo, frames: 41, seconds: 2, end_image: 'input:c', shift: 3 },
    };
    expect(fitDraft(draft, of('starter'))).toEqual({ ...draft, format: null, video: emptyVideo });
    expect(fitDraft(draft, of('flux-dev'))).toMatchObject({
      image: null,
      mask: null,
      strength: null,
      loras: [],
    });
    expect(fitDraft(draft, of('wan-5b'))).toMatchObject({
      image: 'input:a',
      mask: null,
      strength: null,
      format: 'gif',
      video: { frames: 41, seconds: null, end_image: 'input:c', shift: 3 },
    });
    expect(fitDraft({ ...draft, image: null }, of('wan-5b')).video.end_image).toBeNull();
  });

  it('reuses steps where the model can', () => {
    const draft = { ...emptyDraft, prompt: 'x', step_cache: 0.1 };
    const can = { ...of('starter'), step_cache: { min: 0, max: 0.5, default: 0 } };
    expect(fitDraft(draft, can).step_cache).toBe(0.1);
    expect(fitDraft(draft, { ...can, step_cache: null }).step_cache).toBeNull();
  });

  it('keeps the expert of a LoRA only where a model has two networks', () => {
    const draft = { ...emptyDraft, loras: [{ name: 'ink', weight: 1, expert: 'high' as const }] };
    const capable = (experts: boolean): Capabilities => {
      const capabilities = of('wan-5b');
      return { ...capabilities, loras: true, video: { ...capabilities.video!, experts } };
    };
    expect(fitDraft(draft, capable(true)).loras).toEqual(draft.loras);
    expect(fitDraft(draft, capable(false)).loras).toEqual([{ name: 'ink', weight: 1 }]);
  });

  it('knows every format of clips', () => {
    expect(clipFormats.map(({ value }) => value)).toContain('animated_webp');
    expect(clipFormats.map(({ value }) => value)).not.toContain('webp');
  });
});

describe('the length of a clip', () => {
  it('is one frame more than a multiple of the step', () => {
    const rule = of('wan-5b').video!;
    expect([5, 6, 8, 80, 81, 500].map((frames) => roundFrames(frames, rule))).toEqual([
      5, 5, 9, 81, 81, 161,
    ]);
  });
});

describe('a mask', () => {
  const stroke = (isErasing: boolean): MaskStep => ({
    kind: 'stroke',
    isErasing,
    size: 8,
    points: [{ x: 1, y: 1 }],
  });
  it('is blank until something is covered', () => {
    expect(isBlank([], false)).toBe(true);
    expect(isBlank([], true)).toBe(false);
    expect(isBlank([stroke(true)], false)).toBe(true);
    expect(isBlank([stroke(false)], false)).toBe(false);
    expect(isBlank([stroke(false), { kind: 'clear' }], true)).toBe(true);
    expect(isBlank([{ kind: 'clear' }, { kind: 'invert' }], false)).toBe(false);
  });
});
