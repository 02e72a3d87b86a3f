// Pictures that are dropped on the window, and those that are taken from the viewer.
import { act, fireEvent, screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { Toaster } from 'sonner';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import Viewer from '@/features/viewer/Viewer';
import { clipDraftStore, draftStore, emptyDraft } from '@/lib/draft';
import { ANIMATE_TARGET, DROP_ATTRIBUTE } from '@/lib/drag';
import { FileDrops } from './FileDrops';

let backend: MockBackend;
const called = (name: string) =>
  backend.calls.filter((call) => call.name === name).map(({ input }) => input);
const reference = `input:${'1'.padStart(64, '0')}`;

beforeEach(() => {
  backend = resetBackend(new MockBackend({ assets: 3 }));
  draftStore.set(emptyDraft);
  clipDraftStore.set(emptyDraft);
});

function drop(name: string): void {
  const file = new File(['x'], name, { type: 'image/png' });
  fireEvent.drop(document.body, { dataTransfer: { types: ['Files'], files: [file] } });
}

function renderDrops(path = '/') {
  return renderPage(
    <>
      <FileDrops />
      <Toaster />
    </>,
    path,
  );
}

describe('a dropped picture', () => {
  it('without settings is what the next picture starts from', async () => {
    renderDrops();
    drop('plain.png');
    await waitFor(() => expect(draftStore.get().image).toBe(reference));
    expect(await screen.findByText('The picture is in the form.')).toBeInTheDocument();
  });

  it('with settings gives them, and then itself when asked', async () => {
    const user = userEvent.setup();
    renderDrops();
    drop('made.png');
    await screen.findByText('Settings taken over from A1111.');
    expect(draftStore.get()).toMatchObject({ steps: 8, image: null });
    await user.click(screen.getByRole('button', { name: 'Start from it' }));
    await waitFor(() => expect(draftStore.get().image).toBe(reference));
    expect(draftStore.get().steps).toBe(8);
  });

  it('goes into the field that it was dropped on', async () => {
    const field = document.createElement('div');
    field.setAttribute(DROP_ATTRIBUTE, 'video.end_image');
    document.elementFromPoint = () => field;
    renderDrops();
    drop('made.png');
    await waitFor(() => expect(draftStore.get().video.end_image).toBe(reference));
    expect(draftStore.get().steps).toBeNull();
    Reflect.deleteProperty(document, 'elementFromPoint');
  });

  it('begins to move where it is dropped on the sign for that', async () => {
    const sign = document.createElement('div');
    sign.setAttribute(DROP_ATTRIBUTE, ANIMATE_TARGET);
    document.elementFromPoint = () => sign;
    renderDrops();
    drop('made.png');
    await waitFor(() => expect(called('clips_animate')).toEqual([{ images: [reference] }]));
    expect(await screen.findByText('1 draft clip in the queue.')).toBeInTheDocument();
    expect(draftStore.get()).toEqual(emptyDraft);
    Reflect.deleteProperty(document, 'elementFromPoint');
  });

  it('begins the clip of the Video page, whatever settings it carries', async () => {
    renderDrops('/video');
    drop('made.png');
    await waitFor(() => expect(clipDraftStore.get().image).toBe(reference));
    expect(clipDraftStore.get()).toMatchObject({ model: 'wan-5b', steps: null });
    expect(draftStore.get()).toEqual(emptyDraft);
  });

  it('that is none is refused, and nothing changes', async () => {
    renderDrops();
    drop('plain.exe');
    expect(await screen.findByText(/is not a picture that Kinora reads/)).toBeInTheDocument();
    expect(draftStore.get()).toEqual(emptyDraft);
  });

  it('goes to a model that takes one, where that of the form does not', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    draftStore.set({ ...emptyDraft, model: 'flux-dev' });
    const taken = renderPage(<Viewer id={assets[0]!.id} />);
    await waitFor(() =>
      expect(backend.calls.some(({ name }) => name === 'models_list')).toBe(true),
    );
    await screen.findByRole('button', { name: /^Make it move/ });
    await user.click(screen.getByRole('button', { name: 'Start from this picture' }));
    await waitFor(() => expect(draftStore.get().model).toBe('starter'));
    expect(draftStore.get().image).toBe(`asset:${assets[0]!.id}`);
    taken.unmount();
  });
});

describe('the viewer', () => {
  it('makes a picture move at once, by a key as well', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    renderPage(<Viewer id={assets[0]!.id} />);
    await user.click(await screen.findByRole('button', { name: 'Make it move: a draft, at once' }));
    await waitFor(() => expect(called('clips_animate')).toHaveLength(1));
    await user.keyboard('v');
    await waitFor(() => expect(called('clips_animate')).toHaveLength(2));
    expect(called('clips_animate')[1]).toEqual({ images: [`asset:${assets[0]!.id}`] });
  });

  it('begins a clip on the Video page, with a model that can', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    renderPage(<Viewer id={assets[0]!.id} />);
    await user.click(
      await screen.findByRole('button', { name: 'Begin a clip with it, on the Video page' }),
    );
    await waitFor(() => expect(clipDraftStore.get().model).toBe('wan-5b'));
    expect(clipDraftStore.get().image).toBe(`asset:${assets[0]!.id}`);
  });

  it('makes a draft full, by a key as well', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 3 });
    const clip = assets.find(({ kind }) => kind === 'video')!;
    clip.recipe.plan.draft = { size: { width: 832, height: 480 }, steps: 40, frames: 81 };
    renderPage(<Viewer id={clip.id} />);
    await user.click(await screen.findByRole('button', { name: 'Make the draft full' }));
    await waitFor(() => expect(called('clips_make_full')).toEqual([{ ids: [clip.id] }]));
    await user.click(screen.getByRole('button', { name: 'Details' }));
    expect(await screen.findByText(/832 × 480, 81 frames, 40 steps/)).toBeInTheDocument();
    await user.keyboard('d');
    await waitFor(() => expect(called('clips_make_full')).toHaveLength(2));
  });

  it('starts no request from a clip', async () => {
    const { assets } = backend.assets_list({ limit: 3 });
    const clip = assets.find(({ kind }) => kind === 'video')!;
    await act(async () => renderPage(<Viewer id={clip.id} />));
    await screen.findByRole('button', { name: 'Use these settings' });
    expect(screen.queryByRole('button', { name: 'Start from this picture' })).toBeNull();
  });
});

vi.setConfig({ testTimeout: 90_000 });
