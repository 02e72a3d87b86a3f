import { describe, expect, it } from 'vitest';

import { MockBackend } from '#dev/mock/backend';
import { draftRequest, readDraft } from '@/lib/draft';
import { settingsOf } from './settings-of';
import type { Plan } from './types';

const plan = () => new MockBackend({ assets: 1 }).assets_list({}).assets[0]!.recipe.plan;

describe('the settings of a plan', () => {
  it('carry what it started from, by content', () => {
    const picture = (sha256: string) => ({ sha256, width: 4, height: 3 });
    const clip: Plan = {
      ...plan(),
      source: {
        image: picture('aa'),
        mask: null,
        strength: Math.fround(0.4),
        end_image: picture('cc'),
      },
      loras: [{ name: 'ink', weight: Math.fround(0.7), bytes: 1, sha256: null, path: '' }],
      video: { frames: 81, fps: 16, shift: Math.fround(3.1) },
    };
    expect(draftRequest(readDraft(settingsOf(clip)))).toMatchObject({
      image: 'input:aa',
      strength: 0.4,
      loras: [{ name: 'ink', weight: 0.7 }],
      video: { frames: 81, fps: 16, shift: 3.1, end_image: 'input:cc' },
    });
  });

  it('carry the files that stood for parts of the model', () => {
    const made = plan();
    const components = { vae: 'vae/ae-tuned.safetensors' };
    const again = settingsOf({ ...made, model: { ...made.model, components } });
    expect(draftRequest(readDraft(again))).toMatchObject({ components });
    expect(draftRequest(readDraft(settingsOf(made)))).not.toHaveProperty('components');
    expect(readDraft({ components: { vae: 3, text_encoder: '' } }).components).toEqual({});
  });

  it('of words alone name no picture', () => {
    const request = draftRequest(readDraft(settingsOf(plan())));
    expect(request).not.toHaveProperty('image');
    expect(request).not.toHaveProperty('video');
    expect(request).not.toHaveProperty('loras');
  });
});
