// Pictures, masks, adapters and clips in the form, each drawn from what the model can do.
import { act, fireEvent, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { RequestInput } from '@/api/types';
import { draftStore, emptyDraft, emptyVideo, updateDraft } from '@/lib/draft';
import { followedStore } from '@/lib/followed';
import CreatePage from './CreatePage';

// Whole pages are drawn and typed into; a busy machine takes its time.
vi.setConfig({ testTimeout: 90_000 });

let backend: MockBackend;
const submitted = () =>
  backend.calls
    .filter(({ name }) => name === 'jobs_submit')
    .map(({ input }) => input as RequestInput);
const reference = (digit: string) => `input:${digit.padStart(64, '0')}`;

/** A canvas that remembers how it was drawn on; jsdom has none. */
const drawn: string[] = [];
function stubCanvas(): void {
  drawn.length = 0;
  vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockImplementation(function (
    this: HTMLCanvasElement,
  ) {
    return new Proxy({ canvas: this } as Record<string, unknown>, {
      get: (target, key: string) => target[key] ?? (() => drawn.push(key)),
      set: (target, key: string, value) => {
        if (key === 'globalCompositeOperation') drawn.push(String(value));
        target[key] = value;
        return true;
      },
    }) as unknown as CanvasRenderingContext2D;
  } as never);
  vi.spyOn(HTMLCanvasElement.prototype, 'toBlob').mockImplementation((done) =>
    done(new Blob(['png'], { type: 'image/png' })),
  );
}

beforeEach(() => {
  backend = resetBackend();
  draftStore.set({ ...emptyDraft, prompt: 'a hill' });
  followedStore.set(null);
});

async function loadThumbnail(): Promise<void> {
  const image = await screen.findByRole<HTMLImageElement>('img', { name: 'Start from a picture' });
  Object.defineProperties(image, {
    naturalWidth: { value: 256 },
    naturalHeight: { value: 192 },
  });
  fireEvent.load(image);
}

describe('a picture to start from', () => {
  it('is handed in as a file, shown with its size, sent, and taken away', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.upload(
      await screen.findByLabelText('Start from a picture: file'),
      new File(['x'], 'sea.png', { type: 'image/png' }),
    );
    await loadThumbnail();
    expect(await screen.findByText('256 × 192 pixels')).toBeInTheDocument();
    expect(screen.getByText('shaped like the picture')).toBeInTheDocument();
    await user.click(screen.getByRole('button', { name: /^Generate/ }));
    await waitFor(() => expect(submitted()).toHaveLength(1));
    expect(submitted()[0]).toEqual({ prompt: 'a hill', image: reference('1') });
    await user.click(screen.getByRole('button', { name: 'Remove: start from a picture' }));
    expect(draftStore.get().image).toBeNull();
  });

  it('is the one on the stage', async () => {
    const user = userEvent.setup();
    const { jobs } = backend.jobs_submit({ prompt: 'first' });
    for (let i = 0; i < 30; i += 1) backend.step();
    const asset = backend.jobs.get(jobs[0]!.id)!.assets[0]!;
    renderPage(<CreatePage />);
    const button = await screen.findByRole('button', { name: 'Use the one on the stage' });
    await waitFor(() => expect(button).toBeEnabled());
    await user.click(button);
    expect(draftStore.get().image).toBe(`asset:${asset}`);
  });

  it('has a strength only where there is a picture and the model knows one', async () => {
    renderPage(<CreatePage />);
    await screen.findByText('Start from a picture');
    expect(screen.queryByRole('slider', { name: 'Strength' })).toBeNull();
    act(() => updateDraft({ image: reference('1') }));
    expect(await screen.findByRole('slider', { name: 'Strength' })).toBeInTheDocument();
    act(() => updateDraft({ model: 'flux-dev' }));
    await waitFor(() => expect(screen.queryByRole('slider', { name: 'Strength' })).toBeNull());
    expect(screen.getByText(/this picture waits for another model/)).toBeInTheDocument();
    act(() => updateDraft({ image: null }));
    await waitFor(() => expect(screen.queryByText('Start from a picture')).toBeNull());
  });

  it('gets a mask that is painted, undone and kept as a picture of its own', async () => {
    stubCanvas();
    const user = userEvent.setup();
    draftStore.set({ ...emptyDraft, prompt: 'a hill', image: reference('a') });
    renderPage(<CreatePage />);
    await loadThumbnail();
    await user.click(await screen.findByRole('button', { name: 'Paint a mask' }));
    const painter = await screen.findByRole('dialog', { name: 'Paint a mask' });
    const surface = within(painter).getByRole('application');
    expect(surface).toHaveAttribute('width', '256');
    expect(surface).toHaveAttribute('height', '192');
    // The keys of the brush.
    const brush = () => within(painter).getByRole('slider', { name: 'Brush size' });
    const before = Number(brush().getAttribute('aria-valuenow'));
    act(() => surface.focus());
    await user.keyboard(']');
    expect(Number(brush().getAttribute('aria-valuenow'))).toBeGreaterThan(before);
    await user.keyboard('[[[[');
    expect(Number(brush().getAttribute('aria-valuenow'))).toBeLessThan(before);
    // By keyboard and by pointer.
    await user.keyboard('{ArrowLeft} ');
    expect(drawn).toContain('arc');
    await user.click(within(painter).getByRole('radio', { name: 'Eraser' }));
    const at = (clientX: number) => ({ target: surface, coords: { clientX, clientY: 4 } });
    await user.pointer([{ keys: '[MouseLeft>]', ...at(4) }, at(9), { keys: '[/MouseLeft]' }]);
    expect(drawn).toContain('destination-out');
    await user.click(within(painter).getByRole('button', { name: 'Undo' }));
    await user.click(within(painter).getByRole('button', { name: 'Invert the mask' }));
    expect(drawn).toContain('xor');
    // A stray key loses nothing.
    await user.keyboard('{Escape}');
    await user.click(
      within(await screen.findByRole('alertdialog')).getByRole('button', { name: 'Keep' }),
    );
    await user.click(await within(painter).findByRole('button', { name: 'Use this mask' }));
    await waitFor(() => expect(draftStore.get().mask).toBe(reference('1')));
    expect(backend.kept).toHaveLength(1);
    await user.click(await screen.findByRole('button', { name: 'Remove the mask' }));
    expect(draftStore.get()).toMatchObject({ mask: null, image: reference('a') });
  });

  it('keeps no mask that covers nothing', async () => {
    stubCanvas();
    const user = userEvent.setup();
    draftStore.set({ ...emptyDraft, image: reference('a') });
    renderPage(<CreatePage />);
    await loadThumbnail();
    await user.click(await screen.findByRole('button', { name: 'Paint a mask' }));
    await user.click(await screen.findByRole('button', { name: 'Use this mask' }));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    expect(backend.kept).toHaveLength(0);
  });
});

describe('LoRA files', () => {
  it('are found, weighted, checked against the model, and removed', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.click(await screen.findByRole('button', { name: 'Add a LoRA' }));
    await user.type(await screen.findByRole('combobox', { name: 'Search LoRA files' }), 'neon');
    await waitFor(() =>
      expect(
        within(screen.getByRole('listbox', { name: 'LoRA files' })).getAllByRole('option'),
      ).toHaveLength(1),
    );
    await user.keyboard('{Enter}');
    const row = await screen.findByRole('group', { name: 'styles/neon' });
    expect(
      await within(row).findByText('302 of 304 tensors applied · rank 32 · for flux'),
    ).toBeInTheDocument();
    expect(within(row).getByText(/2 tensors left out: lora_te_extra/)).toBeInTheDocument();
    const weight = within(row).getByRole('textbox', { name: 'Weight' });
    await user.type(weight, '-0.5');
    expect(draftStore.get().loras).toEqual([{ name: 'styles/neon', weight: -0.5 }]);
    await user.click(within(row).getByRole('button', { name: 'Remove styles/neon' }));
    expect(draftStore.get().loras).toEqual([]);
  });

  it('that are gone say so, and a broken one cannot be chosen', async () => {
    const user = userEvent.setup();
    draftStore.set({ ...emptyDraft, loras: [{ name: 'lost', weight: 1 }] });
    renderPage(<CreatePage />);
    expect(await screen.findByText(/there is no LoRA file lost/)).toBeInTheDocument();
    await user.click(screen.getByRole('button', { name: 'Add a LoRA' }));
    await user.click(await screen.findByText('Cannot be used: its header is cut'));
    expect(draftStore.get().loras).toHaveLength(1);
  });

  it('take what was said about them along when they go', async () => {
    const user = userEvent.setup();
    const preflight = backend.jobs_preflight.bind(backend);
    vi.spyOn(backend, 'jobs_preflight').mockImplementation((request) => ({
      ...preflight(request),
      problems: (request.loras ?? []).flatMap(({ name }, index) =>
        name === 'lost'
          ? [
              {
                code: 'not_found',
                message: 'lost is gone',
                hint: '',
                field: `loras[${index}].name`,
              },
            ]
          : [],
      ),
    }));
    const prompt = 'a hill';
    draftStore.set({ ...emptyDraft, prompt, loras: [{ name: 'lost', weight: 1 }] });
    renderPage(<CreatePage />);
    expect(await screen.findByText(/lost is gone/)).toBeInTheDocument();
    // The answer about the new row is still to come.
    act(() => draftStore.set((now) => ({ ...now, loras: [{ name: 'styles/neon', weight: 1 }] })));
    expect(screen.getByRole('group', { name: 'styles/neon' })).toBeInTheDocument();
    expect(screen.queryByText(/lost is gone/)).toBeNull();
    await user.click(screen.getByRole('button', { name: 'Remove styles/neon' }));
  });

  it('have a place where they are put', async () => {
    const user = userEvent.setup();
    backend.loras = [];
    renderPage(<CreatePage />);
    await user.click(await screen.findByRole('button', { name: 'Add a LoRA' }));
    expect(await screen.findByText('/home/ada/models/loras')).toBeInTheDocument();
  });

  it('are offered only where the model takes them', async () => {
    draftStore.set({ ...emptyDraft, model: 'wan-5b' });
    renderPage(<CreatePage />);
    await screen.findByRole('group', { name: 'Clip' });
    expect(screen.queryByRole('button', { name: 'Add a LoRA' })).toBeNull();
  });
});

describe('a clip', () => {
  beforeEach(() => draftStore.set({ ...emptyDraft, prompt: 'a boat', model: 'wan-5b' }));

  it('has a length by frames or seconds, a rate, guidance of both networks, and formats', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    const clip = await screen.findByRole('group', { name: 'Clip' });
    expect(within(clip).getByText('81 frames at 16 per second: 5.06 s.')).toBeInTheDocument();
    await user.type(within(clip).getByRole('textbox', { name: 'Frames' }), '40');
    expect(within(clip).getByText('41 frames at 16 per second: 2.56 s.')).toBeInTheDocument();
    await user.click(within(clip).getByRole('radio', { name: 'Seconds' }));
    expect(draftStore.get().video).toMatchObject({ frames: null, seconds: 2.56 });
    await user.type(within(clip).getByRole('textbox', { name: 'Frames/s' }), '24');
    await user.click(within(clip).getByRole('radio', { name: 'By noise' }));
    expect(within(clip).getByRole('slider', { name: 'Boundary' })).toBeInTheDocument();
    await user.click(within(clip).getByRole('radio', { name: 'By share' }));
    expect(within(clip).getByText('60 % of the steps go to detail.')).toBeInTheDocument();
    expect(within(clip).getByRole('slider', { name: 'Guidance, low noise' })).toBeInTheDocument();
    // Guidance is on without a negative prompt.
    expect(screen.getByRole('slider', { name: 'Guidance scale' })).toBeInTheDocument();
    await user.click(screen.getByRole('button', { name: 'Advanced' }));
    expect(screen.getByRole('slider', { name: 'Shift' })).toBeInTheDocument();
    expect(screen.getByRole('combobox', { name: 'File format' })).toHaveTextContent('MP4 (H.264)');
    await user.click(screen.getByRole('button', { name: /^Generate clip/ }));
    await waitFor(() => expect(submitted()).toHaveLength(1));
    expect(submitted()[0]).toEqual({
      prompt: 'a boat',
      model: 'wan-5b',
      video: { seconds: 2.56, fps: 24, low_share: 0.6 },
    });
  });

  it('ends with a picture once it begins with one', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await screen.findByRole('group', { name: 'Clip' });
    expect(screen.queryByText('End with a picture')).toBeNull();
    act(() => updateDraft({ image: reference('a') }));
    await user.upload(
      await screen.findByLabelText('End with a picture: file'),
      new File(['x'], 'end.png', { type: 'image/png' }),
    );
    await waitFor(() => expect(draftStore.get().video.end_image).toBe(reference('1')));
  });

  it('leaves nothing behind in the request of a picture', async () => {
    const user = userEvent.setup();
    draftStore.set({
      ...emptyDraft,
      prompt: 'a hill',
      format: 'gif',
      video: { ...emptyVideo, frames: 41 },
    });
    renderPage(<CreatePage />);
    await user.click(await screen.findByRole('button', { name: /^Generate/ }));
    await waitFor(() => expect(submitted()).toEqual([{ prompt: 'a hill' }]));
    expect(draftStore.get().video.frames).toBe(41);
  });
});
