import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { MODELS } from '#dev/mock/data';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import { settingsOf } from '@/api/settings-of';
import type { Job, Plan, RequestInput } from '@/api/types';
import { draftStore, emptyDraft } from '@/lib/draft';
import { followedStore } from '@/lib/followed';
import { pickJob } from '@/components/stage/StudioPage';
import CreatePage from './CreatePage';

let backend: MockBackend;
const submitted = () =>
  backend.calls
    .filter(({ name }) => name === 'jobs_submit')
    .map(({ input }) => input as RequestInput);

beforeEach(() => {
  backend = resetBackend();
  draftStore.set(emptyDraft);
  followedStore.set(null);
});

describe('the form', () => {
  it('sends the prompt and nothing that was not chosen', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.type(await screen.findByLabelText('Prompt'), 'a red cabin');
    await user.keyboard('{Control>}{Enter}{/Control}');
    await waitFor(() => expect(submitted()).toEqual([{ prompt: 'a red cabin' }]));
  });

  it('asks for a prompt only once one tried without', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    const generate = await screen.findByRole('button', { name: /^Generate/ });
    await waitFor(() =>
      expect(backend.calls.some(({ name }) => name === 'jobs_preflight')).toBe(true),
    );
    expect(screen.queryByText(/The prompt is empty/)).toBeNull();
    await user.click(generate);
    expect(await screen.findByText(/The prompt is empty/)).toBeInTheDocument();
    expect(screen.getByLabelText('Prompt')).toHaveFocus();
    expect(submitted()).toEqual([]);
  });

  it('is drawn from what the model can do', async () => {
    draftStore.set({ ...emptyDraft, model: 'flux-dev' });
    renderPage(<CreatePage />);
    expect(await screen.findByLabelText('Negative prompt')).toBeInTheDocument();
    expect(screen.getByRole('slider', { name: 'Guidance' })).toBeInTheDocument();
    act(() => draftStore.set({ ...emptyDraft, model: 'starter' }));
    await waitFor(() => expect(screen.queryByLabelText('Negative prompt')).toBeNull());
    expect(screen.queryByRole('slider', { name: 'Guidance' })).toBeNull();
  });

  it('shows what the server says at the field', async () => {
    draftStore.set({ ...emptyDraft, prompt: 'x', width: 250, height: 9999 });
    renderPage(<CreatePage />);
    const size = await screen.findByRole('group', { name: /Size/ });
    expect(await within(size).findByText(/The width becomes 256/)).toBeInTheDocument();
    expect(within(size).getByText(/The height must be from 64 to 512/)).toBeInTheDocument();
    expect(screen.getByRole('button', { name: /^Generate/ })).toHaveAttribute(
      'aria-disabled',
      'true',
    );
  });

  it('says why nothing can be generated yet, and then what it will cost', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    expect(await screen.findByText('Write a prompt to begin.')).toBeInTheDocument();
    await user.type(screen.getByLabelText('Prompt'), 'a hill');
    expect(await screen.findByText('about 1.1 s ± 0.3 s')).toBeInTheDocument();
    act(() => draftStore.set({ ...emptyDraft, prompt: 'a hill', width: 9999 }));
    expect(await screen.findByText('1 problem to put right first.')).toBeInTheDocument();
  });

  it('keeps a seed of 64 bits whole', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.type(await screen.findByLabelText('Seed'), '18446744073709551615');
    expect(draftStore.get().seed).toBe('18446744073709551615');
    await user.click(screen.getByRole('button', { name: /^Unlock/ }));
    expect(draftStore.get().seed).toBeNull();
  });

  it('takes a ratio with one click', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.click(await screen.findByRole('radio', { name: /^16:9/ }));
    const preset = backend
      .models_list()
      .models[0]!.capabilities.size.presets.find(({ label }) => label === '16:9')!;
    expect(draftStore.get()).toMatchObject({ width: preset.width, height: preset.height });
  });
});

describe('a prompt with choices', () => {
  it('shows what it becomes, and asks for all of it', async () => {
    const user = userEvent.setup();
    draftStore.set({ ...emptyDraft, prompt: 'a {red|blue} fox in {snow|fog|rain}' });
    renderPage(<CreatePage />);
    const preview = await screen.findByRole('region', { name: '6 combinations' });
    expect(within(preview).getByText('a red fox in fog')).toBeInTheDocument();
    expect(within(preview).getByText(/Each picture draws its own words/)).toBeInTheDocument();
    await user.click(within(preview).getByRole('radio', { name: 'All of them' }));
    await user.keyboard('{Control>}{Enter}{/Control}');
    await waitFor(() => expect(submitted()[0]).toMatchObject({ expansion: 'combinations' }));
  });

  it('is silent about plain prompts, and can be taken as it is written', async () => {
    const user = userEvent.setup();
    draftStore.set({ ...emptyDraft, prompt: '{"subject": "a fox"}' });
    renderPage(<CreatePage />);
    await waitFor(() =>
      expect(backend.calls.some(({ name }) => name === 'prompts_preview')).toBe(true),
    );
    expect(screen.queryByText(/combination/)).toBeNull();
    act(() => draftStore.set({ ...emptyDraft, prompt: '{a|b}', expansion: 'off' }));
    await user.click(await screen.findByRole('button', { name: 'Read its choices' }));
    expect(await screen.findByRole('region', { name: '2 combinations' })).toBeInTheDocument();
    expect(draftStore.get().expansion).toBeNull();
  });

  describe('with the keys for weights', () => {
    const { capabilities } = MODELS[0]!;
    afterEach(() => {
      capabilities.prompt_weights = false;
    });

    it.each([
      { reads: true, expected: 'a (red:1.2) fox' },
      { reads: false, expected: 'a red fox' },
    ])('weighs words where the model reads weights ($reads)', async ({ reads, expected }) => {
      const user = userEvent.setup();
      capabilities.prompt_weights = reads;
      draftStore.set({ ...emptyDraft, prompt: 'a red fox' });
      renderPage(<CreatePage />);
      await screen.findByRole('radio', { name: /^16:9/ });
      const prompt = screen.getByLabelText<HTMLTextAreaElement>('Prompt');
      prompt.focus();
      prompt.setSelectionRange(2, 5);
      await user.keyboard('{Control>}{ArrowUp}{ArrowUp}{/Control}');
      expect(prompt).toHaveValue(expected);
      expect(draftStore.get().prompt).toBe(expected);
      await user.keyboard('{Control>}{ArrowDown}{ArrowDown}{/Control}');
      expect(prompt).toHaveValue('a red fox');
    });
  });

  it('comes back with the settings of its pictures', () => {
    backend.jobs_submit({ prompt: 'a red fox' });
    const made = [...backend.jobs.values()][0]!.plan;
    expect(settingsOf(made)).toMatchObject({ prompt: 'a red fox', expansion: null });
    const template = { prompt: 'a {red|blue} fox', negative_prompt: '', expansion: 'random' };
    expect(settingsOf({ ...made, template } as Plan)).toMatchObject({
      prompt: 'a {red|blue} fox',
      expansion: null,
    });
    const all = { ...template, expansion: 'combinations' };
    expect(settingsOf({ ...made, template: all } as Plan)).toMatchObject({
      expansion: 'combinations',
    });
  });
});

describe('the stage', () => {
  it('follows a run from submission to its picture, and stays in its session', async () => {
    const user = userEvent.setup();
    renderPage(<CreatePage />);
    await user.type(await screen.findByLabelText('Prompt'), 'a red cabin');
    await user.click(screen.getByRole('button', { name: /^Generate/ }));
    await waitFor(() => expect(followedStore.get()).not.toBeNull());
    act(() => backend.step());
    act(() => backend.step());
    expect(
      await screen.findAllByRole('progressbar', { name: 'Reading the prompt' }),
    ).not.toHaveLength(0);
    for (let i = 0; i < 20; i += 1) act(() => backend.step());
    expect(await screen.findByRole('img', { name: 'a red cabin' })).toBeInTheDocument();
    expect(draftStore.get().session).toBe([...backend.sessions.keys()][0]);
  });

  it('finds what the machine is painting after a reload', async () => {
    const { batch } = backend.jobs_submit({ prompt: 'from another window' });
    backend.step();
    renderPage(<CreatePage />);
    await waitFor(() => expect(followedStore.get()).toEqual({ batch, job: null }));
  });

  it('cancels', async () => {
    const user = userEvent.setup();
    const { batch, jobs } = backend.jobs_submit({ prompt: 'x' });
    backend.step();
    followedStore.set({ batch, job: null });
    renderPage(<CreatePage />);
    await user.click(await screen.findByRole('button', { name: 'Cancel' }));
    expect(await screen.findByText('Cancelling')).toBeInTheDocument();
    act(() => backend.step());
    expect(await screen.findByText('Cancelled')).toBeInTheDocument();
    expect(backend.jobs.get(jobs[0]!.id)!.state).toBe('cancelled');
  });
});

describe('which job a run is shown by', () => {
  const job = (id: string, state: Job['state']) => ({ id, state }) as Job;
  it('is the running one, else the last that ended, unless one was chosen', () => {
    const jobs = [job('a', 'done'), job('b', 'running'), job('c', 'queued')];
    expect(pickJob(jobs, null)?.id).toBe('b');
    expect(pickJob(jobs, 'c')?.id).toBe('c');
    expect(pickJob([job('a', 'done'), job('b', 'done')], null)?.id).toBe('b');
    expect(pickJob([], null)).toBeUndefined();
  });
});
