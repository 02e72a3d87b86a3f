import { screen, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { useEffect, useState } from 'react';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { MODELS } from '#dev/mock/data';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { Model } from '@/api/types';
import { emptyDraft, type DraftLora } from '@/lib/draft';
import { LoraField } from './LoraField';

vi.setConfig({ testTimeout: 90_000 });

const clip = MODELS.find((model) => model.id === 'wan-5b')!;
const withExperts = (experts: boolean): Model => ({
  ...clip,
  capabilities: {
    ...clip.capabilities,
    loras: true,
    video: { ...clip.capabilities.video!, experts },
  },
});

let chosen: DraftLora[] = [];

function Fields({ model }: { model: Model }) {
  const [draft, setDraft] = useState(emptyDraft);
  useEffect(() => {
    chosen = draft.loras;
  }, [draft.loras]);
  return (
    <LoraField
      draft={draft}
      model={model}
      defaultCopies={1}
      defaultFormat="mp4"
      defaultTemplate=""
      problems={[]}
      notes={[]}
      onChange={(change) => setDraft((before) => ({ ...before, ...change }))}
    />
  );
}

async function add(name: string) {
  const user = userEvent.setup();
  await user.click(await screen.findByRole('button', { name: 'Add a LoRA' }));
  await user.click(await screen.findByRole('option', { name: new RegExp(name) }));
  return within(await screen.findByRole('group', { name }));
}

beforeEach(() => {
  resetBackend().loras = [
    {
      name: 'dusk_high_noise',
      base: 'Wan 2.2',
      bytes: 3e8,
      ranks: [32],
      tensors: 800,
      expert: 'high',
      fault: null,
    },
    { name: 'ink', base: 'Wan 2.2', bytes: 3e8, ranks: [32], tensors: 800, fault: null },
  ];
});

describe('a LoRA of a model with two networks', () => {
  it('is for the network that its name speaks of, until another is chosen', async () => {
    const user = userEvent.setup();
    renderPage(<Fields model={withExperts(true)} />);
    const row = await add('dusk_high_noise');
    expect(chosen).toEqual([{ name: 'dusk_high_noise', weight: 1, expert: 'high' }]);
    await user.click(row.getByRole('radio', { name: 'Low noise' }));
    expect(chosen[0]?.expert).toBe('low');
    await user.click(row.getByRole('radio', { name: 'Both networks' }));
    expect(chosen[0]?.expert).toBeUndefined();
    const other = await add('ink');
    expect(other.getByRole('radio', { name: 'Both networks' })).toBeChecked();
  });

  it('is offered that choice nowhere else', async () => {
    renderPage(<Fields model={withExperts(false)} />);
    const row = await add('dusk_high_noise');
    expect(row.queryByRole('radio')).toBeNull();
    expect(chosen).toEqual([{ name: 'dusk_high_noise', weight: 1 }]);
  });
});
