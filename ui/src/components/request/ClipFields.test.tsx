import { render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { describe, expect, it, vi } from 'vitest';

import { MODELS } from '#dev/mock/data';
import type { Model } from '@/api/types';
import { emptyDraft, emptyVideo, readDraft } from '@/lib/draft';
import { fitDraft } from './ability';
import { ClipFields } from './ClipFields';

const silent = MODELS.find((model) => model.id === 'wan-5b')!;
const speaking: Model = {
  ...silent,
  capabilities: {
    ...silent.capabilities,
    video: { ...silent.capabilities.video!, sound: true },
  },
};

describe('the sound of a clip', () => {
  it('is on where the model makes any, and can be left out', async () => {
    const user = userEvent.setup();
    const onChange = vi.fn();
    const fields = (model: Model, video = emptyVideo) => (
      <ClipFields
        draft={{ ...emptyDraft, video }}
        model={model}
        staged={null}
        defaultCopies={1}
        defaultFormat="mp4"
        defaultTemplate=""
        problems={[]}
        notes={[{ field: 'video.sound', line: null, message: 'GIF has no sound.' }]}
        onChange={onChange}
      />
    );
    const { rerender } = render(fields(silent));
    expect(screen.queryByRole('switch')).toBeNull();

    rerender(fields(speaking));
    expect(screen.getByRole('switch', { name: /^Sound/ })).toBeChecked();
    expect(screen.getByText('GIF has no sound.')).toBeInTheDocument();
    await user.click(screen.getByRole('switch'));
    expect(onChange).toHaveBeenLastCalledWith({ video: { ...emptyVideo, sound: false } });

    rerender(fields(speaking, { ...emptyVideo, sound: false }));
    expect(screen.getByRole('switch')).not.toBeChecked();
    await user.click(screen.getByRole('switch'));
    expect(onChange).toHaveBeenLastCalledWith({ video: emptyVideo });
  });

  it('stays in the form and out of the requests of models without any', () => {
    const draft = readDraft({ prompt: 'x', video: { sound: false, fps: true } });
    expect(draft.video).toEqual({ ...emptyVideo, sound: false });
    expect(fitDraft(draft, speaking.capabilities).video.sound).toBe(false);
    expect(fitDraft(draft, silent.capabilities).video.sound).toBeNull();
  });
});
