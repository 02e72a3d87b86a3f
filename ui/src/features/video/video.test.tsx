// The Video page: what it asks of the server, and what it says when there is nothing to ask.
import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';

import { MockBackend } from '#dev/mock/backend';
import { MODELS } from '#dev/mock/data';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { RequestInput } from '@/api/types';
import { clipDraftStore, draftStore, emptyDraft, loadSettings, updateClip } from '@/lib/draft';
import { followedClipStore } from '@/lib/followed';
import VideoPage from './VideoPage';
import { describeOutline } from './VideoForm';

let backend: MockBackend;
const submitted = () =>
  backend.calls
    .filter(({ name }) => name === 'jobs_submit')
    .map(({ input }) => input as RequestInput);
const reference = (digit: string) => `input:${digit.padStart(64, '0')}`;

beforeEach(() => {
  backend = resetBackend(new MockBackend({ assets: 3 }));
  clipDraftStore.set(emptyDraft);
  draftStore.set(emptyDraft);
  followedClipStore.set(null);
});

describe('the Video page', () => {
  it('makes a draft first, and says what that leaves out', async () => {
    const user = userEvent.setup();
    renderPage(<VideoPage />);
    const form = await screen.findByRole('form', { name: 'New clip' });
    expect(within(form).getByText(/Say what happens, or give a picture/)).toBeInTheDocument();
    await user.type(await screen.findByLabelText('Prompt'), 'the tide comes in');
    expect(
      await within(form).findByText('544 × 320 · 33 frames · 2.1 s · 10 steps'),
    ).toBeInTheDocument();
    expect(within(form).getByText('832 × 480 · 81 frames · 5.1 s · 40 steps')).toBeInTheDocument();
    await user.click(within(form).getByRole('button', { name: /^Draft/ }));
    await waitFor(() =>
      expect(submitted()).toEqual([
        { prompt: 'the tide comes in', kind: 'video', model: 'wan-5b', draft: true },
      ]),
    );
    expect(followedClipStore.get()?.batch).toBeTruthy();
    await user.keyboard('{Control>}{Shift>}{Enter}{/Shift}{/Control}');
    await waitFor(() => expect(submitted()).toHaveLength(2));
    expect(submitted()[1]).not.toHaveProperty('draft');
  });

  it('needs no words where there is a picture', async () => {
    const user = userEvent.setup();
    updateClip({ image: reference('a') });
    renderPage(<VideoPage />);
    await user.click(await screen.findByRole('button', { name: 'In full' }));
    await waitFor(() =>
      expect(submitted()).toEqual([{ image: reference('a'), kind: 'video', model: 'wan-5b' }]),
    );
  });

  it('offers the models that make clips, and no others', async () => {
    const user = userEvent.setup();
    renderPage(<VideoPage />);
    await user.click(await screen.findByText('Wan 2.2 5B'));
    const list = await screen.findByRole('listbox', { name: 'Models' });
    expect(within(list).getAllByRole('option')).toHaveLength(1);
  });

  it('shows the clips that are there, and no pictures', async () => {
    await act(async () => renderPage(<VideoPage />));
    await waitFor(() =>
      expect(backend.calls).toContainEqual(
        expect.objectContaining({
          name: 'assets_list',
          input: expect.objectContaining({ kind: 'video' }),
        }),
      ),
    );
    expect(await screen.findByRole('group', { name: 'Player' })).toBeInTheDocument();
  });

  it('leads to the models where none makes clips', async () => {
    const gone = MODELS.map((model) =>
      model.capabilities.video ? { ...model, is_installed: false } : model,
    );
    backend.models_list = () => ({ models: gone, default: 'starter' }) as never;
    renderPage(<VideoPage />);
    expect(await screen.findByText('No model for clips yet')).toBeInTheDocument();
    expect(screen.getByText(/Kinora runs Wan 2.2 5B/)).toBeInTheDocument();
    expect(screen.getByRole('button', { name: 'To the models' })).toBeInTheDocument();
  });
});

it('settings of a clip go into the form of clips', () => {
  expect(loadSettings({ prompt: 'a boat', video: { frames: 41 } })).toBe('/video');
  expect(clipDraftStore.get()).toMatchObject({ prompt: 'a boat', video: { frames: 41 } });
  expect(draftStore.get()).toEqual(emptyDraft);
  expect(loadSettings({ prompt: 'a hill' })).toBe('/create');
  // Written out in full, as files of other programs are read.
  expect(loadSettings({ prompt: 'a hill', video: { frames: null, fps: null } })).toBe('/create');
  expect(draftStore.get().prompt).toBe('a hill');
});

it('an outline says what comes', () => {
  const size = { width: 512, height: 512 };
  const still = { model: 'm', mode: 'text_to_image', size, steps: 8, video: null, draft: null };
  expect(describeOutline(still as never)).toBe('512 × 512 · 8 steps');
});
