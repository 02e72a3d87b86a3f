// Each page against the scripted host: what one does there, and what is asked of the server.
import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { Toaster } from 'sonner';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { inventFailure, MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { Asset } from '@/api/types';
import { draftStore, emptyDraft } from '@/lib/draft';

const { default: GalleryPage } = await import('./gallery/GalleryPage');
const { default: QueuePage } = await import('./queue/QueuePage');
const { default: SessionsPage } = await import('./sessions/SessionsPage');
const { default: ModelsPage } = await import('./models/ModelsPage');
const { default: JobDetail } = await import('./job/JobDetail');
const { default: Viewer } = await import('./viewer/Viewer');

let backend: MockBackend;
const called = (name: string) =>
  backend.calls.filter((call) => call.name === name).map(({ input }) => input);

beforeEach(() => {
  backend = resetBackend(new MockBackend({ assets: 30 }));
  draftStore.set(emptyDraft);
  // jsdom has no layout: give virtual lists a window to fill.
  vi.spyOn(HTMLElement.prototype, 'clientWidth', 'get').mockReturnValue(1000);
  vi.spyOn(HTMLElement.prototype, 'clientHeight', 'get').mockReturnValue(700);
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(1000);
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(700);
});

describe('Gallery', () => {
  it('selects by keyboard, trashes, and brings back', async () => {
    const user = userEvent.setup();
    renderPage(
      <>
        <GalleryPage />
        <Toaster />
      </>,
    );
    await screen.findAllByRole('option');
    act(() => screen.getByRole('listbox', { name: 'Pictures' }).focus());
    await user.keyboard('{ArrowRight} {Shift>}{ArrowRight}{/Shift}');
    expect(screen.getByText('2 pictures selected')).toBeInTheDocument();
    await user.keyboard('{Delete}');
    await waitFor(() => expect(called('assets_trash')).toHaveLength(1));
    expect((called('assets_trash')[0] as { ids: string[] }).ids).toHaveLength(2);
    await user.click(await screen.findByRole('button', { name: 'Undo' }));
    await waitFor(() => expect(called('assets_restore')).toEqual(called('assets_trash')));
  });

  it('makes pictures move and drafts full, by key and by button', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 2 });
    const [still, clip] = assets as [Asset, Asset];
    clip.recipe.plan.draft = { size: { width: 832, height: 480 }, steps: 40, frames: 81 };
    renderPage(<GalleryPage />);
    await screen.findByRole('option', { name: /^Draft\. Video/ });
    await waitFor(() => expect(called('models_list').length).toBeGreaterThan(0));
    act(() => screen.getByRole('listbox', { name: 'Pictures' }).focus());
    await user.keyboard('{Control>}a{/Control}');
    await screen.findByRole('button', { name: 'Make drafts full' });
    await user.keyboard('d');
    await waitFor(() => expect(called('clips_make_full')).toEqual([{ ids: [clip.id] }]));
    await user.keyboard('{Escape}{Home}v');
    await waitFor(() =>
      expect(called('clips_animate')).toEqual([{ images: [`asset:${still.id}`] }]),
    );
  });

  it('searches on the server, and says when nothing matches', async () => {
    const user = userEvent.setup();
    renderPage(<GalleryPage />);
    await user.type(await screen.findByRole('searchbox'), 'no such thing');
    expect(await screen.findByText('No picture matches')).toBeInTheDocument();
    await user.click(screen.getByRole('button', { name: 'Show everything' }));
    await waitFor(() => expect(screen.getAllByRole('option').length).toBeGreaterThan(5));
  });
});

describe('Gallery, more', () => {
  it('shows pictures, videos or both, and plays a video under the pointer', async () => {
    const user = userEvent.setup();
    renderPage(<GalleryPage />);
    await screen.findAllByRole('option');
    await user.click(screen.getByRole('radio', { name: 'Videos' }));
    await waitFor(() => expect(screen.getAllByRole('option')).toHaveLength(6));
    expect(called('assets_list').at(-1)).toMatchObject({ kind: 'video' });
    expect(screen.getByText('6 videos')).toBeInTheDocument();
    const first = screen.getAllByRole('option', { name: /^Video, 5 seconds: / })[0]!;
    expect(first.querySelector('video')).toBeNull();
    await user.hover(first);
    await waitFor(() => expect(first.querySelector('video')).not.toBeNull());
    await user.unhover(first);
    await waitFor(() => expect(first.querySelector('video')).toBeNull());
    await user.click(screen.getByRole('radio', { name: 'Images' }));
    await waitFor(() => expect(screen.queryByRole('option', { name: /^Video/ })).toBeNull());
  });

  it('deletes the picture under the cursor for good, from the trash only, after asking', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    backend.assets_trash({ ids: [assets[0]!.id] });
    renderPage(<GalleryPage />, '/gallery?trash=1');
    await screen.findAllByRole('option');
    act(() => screen.getByRole('listbox', { name: 'Pictures in the trash' }).focus());
    await user.keyboard('{Delete}');
    const question = await screen.findByRole('alertdialog', {
      name: 'Delete 1 picture for good?',
    });
    await user.click(within(question).getByRole('button', { name: 'Delete for good' }));
    await waitFor(() => expect(called('assets_purge')).toEqual([{ ids: [assets[0]!.id] }]));
  });

  it('shows the oldest first when asked', async () => {
    const user = userEvent.setup();
    renderPage(<GalleryPage />);
    await user.click(await screen.findByRole('button', { name: /show the oldest first/ }));
    await waitFor(() => expect(called('assets_list').at(-1)).toMatchObject({ sort: 'oldest' }));
  });
});

describe('Queue', () => {
  beforeEach(() => {
    backend.queue_pause();
    for (const prompt of ['first', 'second', 'third']) backend.jobs_submit({ prompt });
  });

  it('moves a waiting job with the keyboard', async () => {
    const user = userEvent.setup();
    renderPage(<QueuePage />);
    const handle = await screen.findByRole('button', { name: /^Move job 3: third/ });
    act(() => handle.focus());
    await user.keyboard('{Alt>}{ArrowUp}{/Alt}');
    await screen.findByRole('button', { name: /^Move job 2: third/ });
    expect(await screen.findByText('Moved to place 2 of 3.')).toBeInTheDocument();
    expect(screen.getByRole('button', { name: /^Move job 2: third/ })).toHaveFocus();
  });

  it('moves by menu for those who cannot drag', async () => {
    const user = userEvent.setup();
    renderPage(<QueuePage />);
    await screen.findByText('second');
    await user.click(screen.getAllByRole('button', { name: 'More for this job' })[0]!);
    await user.click(await screen.findByRole('menuitem', { name: /To the end/ }));
    await screen.findByRole('button', { name: /^Move job 3: first/ });
  });

  it('says why a job waits, and goes on when it is told to', async () => {
    const user = userEvent.setup();
    renderPage(<QueuePage />);
    expect(await screen.findAllByText(/The queue is paused ·/)).toHaveLength(3);
    await user.click(screen.getByRole('button', { name: 'Resume the queue' }));
    expect(await screen.findByRole('button', { name: 'Pause the queue' })).toBeInTheDocument();
    expect(await screen.findByText(/Next after one job/)).toBeInTheDocument();
  });

  it('asks before it cancels everything', async () => {
    const user = userEvent.setup();
    renderPage(<QueuePage />);
    await user.click(await screen.findByRole('button', { name: 'Cancel all' }));
    expect(called('queue_cancel_all')).toEqual([]);
    await user.click(screen.getByRole('button', { name: 'Cancel 3' }));
    expect(await screen.findByText('Nothing waits')).toBeInTheDocument();
  });

  it('retries a failed job with the fix that fits, and dismisses it', async () => {
    const user = userEvent.setup();
    const job = [...backend.jobs.values()][0]!;
    Object.assign(job, { state: 'failed', failure: inventFailure(2), finished_at: 1 });
    renderPage(<QueuePage />);
    await user.click(await screen.findByRole('radio', { name: /^Failed/ }));
    await user.click(await screen.findByRole('button', { name: 'Retry at 192 × 192' }));
    await waitFor(() => expect(called('jobs_retry')).toEqual([{ id: job.id, with_fix: true }]));
    await user.click(screen.getByRole('button', { name: 'Dismiss' }));
    expect(await screen.findByText('Nothing failed')).toBeInTheDocument();
  });
});

describe('Job', () => {
  it('tells its whole post-mortem', async () => {
    backend.jobs_submit({ prompt: 'x' });
    const job = [...backend.jobs.values()][0]!;
    Object.assign(job, { state: 'failed', failure: inventFailure(2) });
    renderPage(<JobDetail id={job.id} />);
    const dialog = await screen.findByRole('dialog');
    expect(await within(dialog).findByText('Not enough memory')).toBeInTheDocument();
    expect(
      within(dialog).getByText(/Failed to run Kinora Starter at 256×256: it needs 9.6 GB/),
    ).toBeInTheDocument();
    expect(
      within(dialog).getByRole('img', { name: /^Memory of the engine rose/ }),
    ).toBeInTheDocument();
    expect(within(dialog).getByText(/allocating 9.6 GB/)).toBeInTheDocument();
  });
});

describe('Viewer', () => {
  it('uses the settings of its picture, and checks its recipe', async () => {
    const user = userEvent.setup();
    const { assets } = backend.assets_list({ limit: 1 });
    renderPage(<Viewer id={assets[0]!.id} />);
    await user.click(await screen.findByRole('button', { name: 'Details' }));
    await user.click(await screen.findByRole('button', { name: /Check it against/ }));
    expect(await screen.findByText(/may give another picture/)).toBeInTheDocument();
    await user.keyboard('u');
    await waitFor(() => expect(draftStore.get().seed).toBe(assets[0]!.recipe.plan.seed));
  });
});

describe('Sessions', () => {
  it('renames', async () => {
    const user = userEvent.setup();
    backend.sessions_create({ title: 'Old name' });
    renderPage(<SessionsPage />);
    await user.click(await screen.findByRole('button', { name: 'More for Old name' }));
    await user.click(await screen.findByRole('menuitem', { name: 'Rename' }));
    const name = await screen.findByLabelText('Name');
    await user.clear(name);
    await user.type(name, 'New name{Enter}');
    expect(await screen.findByRole('link', { name: 'New name' })).toBeInTheDocument();
  });
});

describe('Models', () => {
  it('shows them by category, with the way to their licence', async () => {
    renderPage(<ModelsPage />);
    expect(await screen.findByRole('heading', { name: 'Quality' })).toBeInTheDocument();
    expect(screen.getByRole('button', { name: 'Accept its licence' })).toBeInTheDocument();
    expect(screen.getByText('Default')).toBeInTheDocument();
  });
});
