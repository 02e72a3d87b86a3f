import { screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { useEffect, useState } from 'react';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { MODELS } from '#dev/mock/data';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { Problem } from '@/api/types';
import { chooseModel, emptyDraft, readDraft } from '@/lib/draft';
import { PartsField, partOptions } from './PartsField';

vi.setConfig({ testTimeout: 90_000 });

const starter = MODELS[0]!;
const noProblems: Problem[] = [];
let backend: MockBackend;
let chosen: Record<string, string> = {};
beforeEach(() => {
  backend = resetBackend();
});

function Fields({
  components = {},
  problems = noProblems,
}: {
  components?: Record<string, string>;
  problems?: Problem[];
}) {
  const [draft, setDraft] = useState({ ...emptyDraft, components });
  useEffect(() => {
    chosen = draft.components;
  }, [draft.components]);
  return (
    <PartsField
      draft={draft}
      model={starter}
      defaultCopies={1}
      defaultFormat="png"
      defaultTemplate=""
      problems={problems}
      notes={[]}
      onChange={(change) => setDraft((now) => ({ ...now, ...change }))}
    />
  );
}

describe('the parts of a model', () => {
  it('are chosen from the files that fit, and given back', async () => {
    const user = userEvent.setup();
    renderPage(<Fields />);
    const vae = await screen.findByRole('combobox', { name: 'VAE' });
    expect(vae).toHaveTextContent('As in the model');
    await user.click(vae);
    expect(screen.getByRole('option', { name: /As in the model/ })).toHaveTextContent(
      'vae/model.safetensors',
    );
    expect(screen.getByRole('option', { name: /taef1/ })).toHaveTextContent(/in vae\/old.*9\.8 MB/);
    await user.click(screen.getByRole('option', { name: /taef1/ }));
    expect(chosen).toEqual({ vae: 'vae/old/taef1.safetensors' });
    await user.click(screen.getByRole('combobox', { name: 'VAE' }));
    await user.click(screen.getByRole('option', { name: /As in the model/ }));
    expect(chosen).toEqual({});
  });

  it('say where to put files while none fits', async () => {
    backend.parts = {};
    renderPage(<Fields />);
    expect(
      await screen.findByText(/No other file fits as VAE, Text encoder and Second text encoder/),
    ).toBeInTheDocument();
    await waitFor(() => expect(screen.getByText('/home/ada/models')).toBeInTheDocument());
    expect(screen.queryByRole('combobox')).toBeNull();
  });

  it('of another model stay in sight with what is wrong, until they are taken away', async () => {
    const user = userEvent.setup();
    const problem: Problem = {
      code: 'invalid_input',
      field: 'components.image_encoder',
      message: 'it has no such part',
      hint: 'It has vae.',
    };
    renderPage(<Fields components={{ image_encoder: 'clip_vision/h.sft' }} problems={[problem]} />);
    const lost = await screen.findByRole('combobox', { name: 'image_encoder' });
    expect(lost).toHaveTextContent('h.sft');
    expect(screen.getByRole('alert')).toHaveTextContent('it has no such part. It has vae.');
    await user.click(lost);
    await user.click(screen.getByRole('option', { name: /As in the model/ }));
    expect(chosen).toEqual({});
  });
});

it('another model begins with its own parts', () => {
  const draft = readDraft({ model: 'starter', components: { vae: 'x' } });
  expect({ ...draft, ...chooseModel('flux-dev') }).toMatchObject({
    model: 'flux-dev',
    components: {},
  });
});

it('a file that was chosen and is gone is still an option', () => {
  const options = partOptions({ file: 'own', choices: [] }, 'vae/gone.sft');
  expect(options.map(({ value, about }) => [value, about])).toEqual([
    ['', 'own'],
    ['vae/gone.sft', 'not in the list of files'],
  ]);
});
