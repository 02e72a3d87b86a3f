import { Text } from '@codemirror/state';
import { act, screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { BulkInput, Problem } from '@/api/types';
import { bulkStore, emptyBulk, isListFile, updateBulk } from '@/lib/bulk-draft';
import { emptyDraft } from '@/lib/draft';
import { Compose } from './Compose';
import { toDiagnostics } from './ListEditor';
import { problemsByLine, usedColumns } from './RowsTable';

let backend: MockBackend;
beforeEach(() => {
  backend = resetBackend();
  bulkStore.set(emptyBulk);
});
const sent = () =>
  backend.calls.filter(({ name }) => name === 'bulk_submit').map(({ input }) => input as BulkInput);

describe('writing a list', () => {
  it('says what was understood and runs it', async () => {
    const user = userEvent.setup();
    renderPage(<Compose />);
    act(() => updateBulk({ text: 'prompt,seed\na hill,3\na lake,4\n', name: 'hills.csv' }));
    expect(await screen.findByText('2 rows, 2 pictures')).toBeInTheDocument();
    expect(screen.getByText('CSV')).toBeInTheDocument();
    await user.click(screen.getByRole('button', { name: /Run the list/ }));
    await waitFor(() => expect(sent()).toHaveLength(1));
    expect(sent()[0]).toMatchObject({ name: 'hills.csv', combine: 'product', defaults: {} });
    expect(backend.jobs.size).toBe(2);
  });

  it('names every bad row with line and column, and does not run', async () => {
    const user = userEvent.setup();
    renderPage(<Compose />);
    act(() => updateBulk({ text: 'prompt,width\na,abc\nb,256\nc,9999\n' }));
    await user.click(await screen.findByRole('button', { name: '2 problems' }));
    expect(screen.getByText('Line 2')).toBeInTheDocument();
    expect(screen.getByText('Line 4')).toBeInTheDocument();
    expect(screen.getByRole('button', { name: /Run the list/ })).toBeDisabled();
  });

  it('sends the defaults with each check', async () => {
    renderPage(<Compose />);
    act(() => updateBulk({ text: 'a hill', defaults: { ...emptyDraft, steps: 4 } }));
    await waitFor(() => {
      const checks = backend.calls.filter(({ name }) => name === 'bulk_check');
      expect(checks.at(-1)?.input).toMatchObject({ text: 'a hill', defaults: { steps: 4 } });
    });
  });
});

describe('pictures of the rows', () => {
  it('write a list of their own, and go with it', async () => {
    const user = userEvent.setup();
    renderPage(<Compose />);
    await user.upload(await screen.findByLabelText('Pictures of the rows: files'), [
      new File(['a'], 'fox.png', { type: 'image/png' }),
      new File(['b'], 'a "wise" owl, old.png', { type: 'image/png' }),
    ]);
    await waitFor(() =>
      expect(bulkStore.get().text).toBe('image,prompt\nfox.png,\n"a ""wise"" owl, old.png",\n'),
    );
    await waitFor(() => {
      const checks = backend.calls.filter(({ name }) => name === 'bulk_check');
      const { pictures } = checks.at(-1)?.input as BulkInput;
      expect(Object.keys(pictures!)).toEqual(['fox.png', 'a "wise" owl, old.png']);
    });
    await user.click(screen.getByRole('button', { name: 'Forget fox.png' }));
    expect(Object.keys(bulkStore.get().pictures)).toEqual(['a "wise" owl, old.png']);
  });

  it('and rows of any list are drafts where that is wanted', async () => {
    const user = userEvent.setup();
    renderPage(<Compose />);
    act(() => updateBulk({ text: 'a hill' }));
    await user.click(await screen.findByRole('switch', { name: /Drafts first/ }));
    await waitFor(() => {
      const checks = backend.calls.filter(({ name }) => name === 'bulk_check');
      expect(checks.at(-1)?.input).toMatchObject({ defaults: { draft: true } });
    });
  });
});

describe('problems of a list', () => {
  const problem = (line: number | null, column: string | null = null): Problem => ({
    code: 'invalid_input',
    message: 'm',
    hint: 'h',
    line,
    column,
  });
  it('are marked at their lines; those of the whole list at none', () => {
    const text = Text.of(['first', 'second', '']);
    expect(toDiagnostics(text, [problem(2, 'seed'), problem(null), problem(99)])).toEqual([
      { from: 6, to: 12, severity: 'error', message: 'seed: m h' },
    ]);
    expect([...problemsByLine([problem(2), problem(2), problem(null)]).keys()]).toEqual([2]);
  });
});

describe('the table', () => {
  it('has only the columns that are used', async () => {
    const { rows } = backend.bulk_check({ text: 'prompt,seed,width\na,3,\n' });
    expect(usedColumns(rows).map(({ label }) => label)).toEqual(['Seed']);
  });
});

describe('the columns of a row', () => {
  const columns = (request: object) =>
    usedColumns([{ line: 1, pictures: 1, output: null, request } as never]).map(
      ({ label, read }) => [label, read(request as never)],
    );

  it('show all of its pictures with how much each counts', () => {
    const more_images = [
      { image: 'input:bb', strength: Math.fround(0.6) },
      { image: 'input:cc', strength: null },
    ];
    expect(columns({ image: 'input:aa', more_images })).toEqual([
      ['Picture', 'input:aa input:bb input:cc'],
      ['Strength', '–, 0.6, –'],
    ]);
  });

  it('show what only clips have, parts and adapters', () => {
    expect(
      columns({
        components: { vae: 'ae-tuned', text_encoder: 'clip_l' },
        loras: [{ name: 'ink', weight: 0.5 }],
        video: { frames: 33, vae_tiling: true, sound: false },
      }),
    ).toEqual([
      ['Parts', 'vae=ae-tuned, text_encoder=clip_l'],
      ['LoRA files', 'ink:0.5'],
      ['Frames', '33'],
      ['Sound', 'No'],
      ['Tiles', 'Yes'],
    ]);
  });
});

it('tells lists from pictures', () => {
  expect(isListFile('a.CSV')).toBe(true);
  expect(isListFile('a.b.jsonl')).toBe(true);
  expect(isListFile('a.png')).toBe(false);
});
