import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { inventFailure } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import type { Job } from '@/api/types';
import { batchViewStore } from '@/lib/preferences';
import { BatchView } from './BatchView';
import { rowNumber, workSeconds } from './BatchTable';

let backend: MockBackend;
let batch: string;
beforeEach(() => {
  // jsdom has no layout: give virtual lists a window to fill.
  vi.spyOn(HTMLElement.prototype, 'clientWidth', 'get').mockReturnValue(1000);
  vi.spyOn(HTMLElement.prototype, 'clientHeight', 'get').mockReturnValue(600);
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600);
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(1000);
  backend = resetBackend();
  batchViewStore.set('table');
  batch = backend.bulk_submit({ text: 'prompt,seed,copies\na hill,3,\na lake,4,2\n' }).batch;
  const [first, second] = backend.jobs.values();
  Object.assign(second!, { state: 'failed', failure: inventFailure(2), finished_at: 5 });
  Object.assign(first!, { state: 'done', started_at: 1000, finished_at: 3500, assets: ['a1'] });
});

describe('a list that was run, as a table', () => {
  it('says of every row what was asked, where it stands and how long it took', async () => {
    renderPage(<BatchView id={batch} />);
    const table = await screen.findByRole('table', { name: 'Rows of the list' });
    const done = (await within(table).findByText('a hill')).closest<HTMLElement>('[role=row]')!;
    expect(done).toHaveTextContent('256 × 256');
    expect(done).toHaveTextContent('2.5 s');
    expect(done).toHaveTextContent('Done');
    expect(done).toHaveTextContent(/-3\.png/);
    const [failed, waiting] = within(table)
      .getAllByText('a lake')
      .map((cell) => cell.closest<HTMLElement>('[role=row]')!);
    expect(failed).toHaveTextContent('Not enough memory');
    expect(waiting).toHaveTextContent('3.2');
  });

  it('runs one failed row again with the fix that fits', async () => {
    const user = userEvent.setup();
    renderPage(<BatchView id={batch} />);
    await user.click(await screen.findByRole('button', { name: 'Retry at 192 × 192' }));
    await waitFor(() => expect(backend.jobs.size).toBe(4));
    expect([...backend.jobs.values()].at(-1)!.plan.size).toEqual({ width: 192, height: 192 });
  });

  it('becomes the contact sheet and stays so', async () => {
    const user = userEvent.setup();
    renderPage(<BatchView id={batch} />);
    await user.click(await screen.findByRole('radio', { name: 'Contact sheet' }));
    expect(screen.queryByRole('table')).toBeNull();
    expect(batchViewStore.get()).toBe('sheet');
  });

  it('follows a row while it runs', async () => {
    renderPage(<BatchView id={batch} />);
    await screen.findByRole('table');
    act(() => backend.step());
    act(() => backend.step());
    expect(await screen.findByText('Reading the prompt')).toBeInTheDocument();
  });
});

describe('rows', () => {
  const job = (change: Partial<Job>) => ({ line: 3, copy: 0, ...change }) as Job;
  it('are numbered as in the file, with their copy', () => {
    expect(rowNumber(job({}), 0)).toBe('3');
    expect(rowNumber(job({ copy: 1 }), 0)).toBe('3.2');
    expect(rowNumber(job({ line: null }), 4)).toBe('5');
  });
  it('took time only when they came to an end', () => {
    expect(workSeconds(job({ state: 'running', started_at: 1, finished_at: null }))).toBeNull();
    expect(workSeconds(job({ state: 'failed', started_at: 1, finished_at: 2 }))).toBeNull();
    expect(workSeconds(job({ state: 'done', started_at: 0, finished_at: 1500 }))).toBe(1.5);
  });
});
