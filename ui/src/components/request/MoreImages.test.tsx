import { screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { useEffect, useState } from 'react';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { MODELS } from '#dev/mock/data';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { Model } from '@/api/types';
import { draftRequest, emptyDraft, type Draft } from '@/lib/draft';
import { SourceFields } from './SourceFields';

vi.setConfig({ testTimeout: 90_000 });

const starter = MODELS.find((model) => model.id === 'starter')!;
const varier: Model = {
  ...starter,
  name: 'Varier',
  capabilities: {
    ...starter.capabilities,
    modes: ['variation'],
    strength: { min: 0, max: 2, default: 1 },
    more_images: 2,
  },
};
const reference = (digit: string) => `input:${digit.padStart(64, '0')}`;

let chosen: Draft = emptyDraft;

function Fields({ model, image }: { model: Model; image: string | null }) {
  const [draft, setDraft] = useState<Draft>({ ...emptyDraft, image });
  useEffect(() => {
    chosen = draft;
  }, [draft]);
  return (
    <SourceFields
      draft={draft}
      model={model}
      staged={reference('9')}
      defaultCopies={1}
      defaultFormat="png"
      defaultTemplate=""
      problems={[]}
      notes={[]}
      onChange={(change) => setDraft((before) => ({ ...before, ...change }))}
    />
  );
}

beforeEach(() => {
  resetBackend();
});

describe('a model that takes several pictures', () => {
  it('asks for one more until it has enough, each with its strength', async () => {
    const user = userEvent.setup();
    renderPage(<Fields model={varier} image={reference('1')} />);
    const add = () => screen.findByRole('button', { name: 'Use the one on the stage' });
    await user.click(await add());
    const strength = await screen.findByRole('textbox', { name: 'Strength of picture 2' });
    await user.type(strength, '0.5');
    await user.tab();
    await user.click(await add());
    expect(screen.queryByText('One more picture')).not.toBeInTheDocument();
    expect(draftRequest(chosen)).toEqual({
      image: reference('1'),
      more_images: [{ image: reference('9'), strength: 0.5 }, { image: reference('9') }],
    });

    // The next picture takes the place of the first.
    await user.click(screen.getByRole('button', { name: 'Remove: start from a picture' }));
    expect(draftRequest(chosen)).toEqual({
      image: reference('9'),
      strength: 0.5,
      more_images: [{ image: reference('9') }],
    });
  });

  it('has no such field without a first picture, nor does another model', async () => {
    renderPage(<Fields model={varier} image={null} />);
    expect(await screen.findByText('Start from a picture')).toBeInTheDocument();
    expect(screen.queryByText('One more picture')).not.toBeInTheDocument();
  });

  it('is one that says so', async () => {
    renderPage(<Fields model={starter} image={reference('1')} />);
    expect(await screen.findByText('Start from a picture')).toBeInTheDocument();
    expect(screen.queryByText('One more picture')).not.toBeInTheDocument();
  });
});
