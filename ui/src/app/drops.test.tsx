// Pictures that are dropped on the window, and those that are taken from the viewer.
import { act, fireEvent, screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { Toaster } from 'sonner';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import Viewer from '@/features/viewer/Viewer';
import { draftStore, emptyDraft } from '@/lib/draft';
import { DROP_ATTRIBUTE } from '@/lib/drag';
import { FileDrops } from './FileDrops';

let backend: MockBackend;
const reference = `input:${'1'.padStart(64, '0')}`;

beforeEach(() => {
  backend = resetBackend(new MockBackend({ assets: 3 }));
  draftStore.set(emptyDraft);
});

function drop(name: string): void {
  const file = new File(['x'], name, { type: 'image/png' });
  fireEvent.drop(document.body, { dataTransfer: { types: ['Files'], files: [file] } });
}

function renderDrops() {
  return renderPage(
    <>
      <FileDrops />
      <Toaster />
    </>,
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
  it('makes a picture move with a model that can', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    renderPage(<Viewer id={assets[0]!.id} />);
    await user.click(await screen.findByRole('button', { name: 'Make it move, with Wan 2.2 5B' }));
    await waitFor(() => expect(draftStore.get().model).toBe('wan-5b'));
    expect(draftStore.get().image).toBe(`asset:${assets[0]!.id}`);
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
