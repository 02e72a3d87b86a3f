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

describe('windows in time', () => {
  const windowed: Model = {
    ...silent,
    capabilities: {
      ...silent.capabilities,
      video: {
        ...silent.capabilities.video!,
        frames: { min: 1, max: 241, default: 81 },
        frame_step: 4,
        context: { frames: { min: 17, max: 241, default: 81 }, longest: 1025 },
      },
    },
  };
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
      notes={[]}
      onChange={onChange}
    />
  );

  it('are off, and make longer clips possible where the model takes them', async () => {
    const user = userEvent.setup();
    const { rerender } = render(fields(silent));
    expect(screen.queryByRole('switch', { name: /^Windows/ })).toBeNull();

    rerender(fields(windowed));
    expect(screen.getByRole('slider', { name: 'Frames' })).toHaveAttribute('aria-valuemax', '241');
    expect(screen.queryByRole('slider', { name: 'Overlap' })).toBeNull();
    await user.click(screen.getByRole('switch', { name: /^Windows/ }));
    const on = { ...emptyVideo, context_frames: 81 };
    expect(onChange).toHaveBeenLastCalledWith({ video: on });

    rerender(fields(windowed, on));
    expect(screen.getByRole('slider', { name: 'Frames' })).toHaveAttribute('aria-valuemax', '1025');
    // Three eighths of 21 latent frames, and three quarters at most.
    const overlap = screen.getByRole('slider', { name: 'Overlap' });
    expect(overlap).toHaveAttribute('aria-valuenow', '32');
    expect(overlap).toHaveAttribute('aria-valuemax', '60');
    await user.click(screen.getByRole('switch', { name: /^Windows/ }));
    expect(onChange).toHaveBeenLastCalledWith({ video: emptyVideo });
  });

  it('stay in the form and out of the requests of models that see whole clips', () => {
    const draft = readDraft({ prompt: 'x', video: { context_frames: 49, context_overlap: 8 } });
    expect(fitDraft(draft, windowed.capabilities).video).toEqual(draft.video);
    expect(fitDraft(draft, silent.capabilities).video).toEqual(emptyVideo);
    const overlapAlone = readDraft({ prompt: 'x', video: { context_overlap: 8 } });
    expect(fitDraft(overlapAlone, windowed.capabilities).video.context_overlap).toBeNull();
  });
});
