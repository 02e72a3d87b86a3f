import { screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, expect, it } from 'vitest';

import type { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { renderPage } from '#dev/render';
import { ApiError } from '@/api/error';
import { Wildcards } from './Wildcards';

let backend: MockBackend;
const called = (wanted: string) =>
  backend.calls.filter(({ name }) => name === wanted).map(({ input }) => input);

beforeEach(() => {
  backend = resetBackend();
});

it('begins with an empty page and a list to write', async () => {
  const user = userEvent.setup();
  renderPage(<Wildcards />);
  expect(await screen.findByText('No lists yet')).toBeInTheDocument();
  await user.click(screen.getByRole('button', { name: 'New list' }));
  expect(screen.getByRole('button', { name: 'Save' })).toBeDisabled();
  await user.type(screen.getByLabelText('Name'), 'animals/birds');
  await user.type(screen.getByLabelText('Options'), 'owl{Enter}hen');
  await user.click(screen.getByRole('button', { name: 'Save' }));
  const list = await screen.findByRole('list', { name: 'Wildcards' });
  expect(within(list).getByText('animals/birds')).toBeInTheDocument();
  expect(within(list).getByText(/^2 options/)).toBeInTheDocument();
  expect(called('wildcards_save')).toEqual([
    { name: 'animals/birds', text: 'owl\nhen', only_new: true },
  ]);
});

it('edits a list, and says what is wrong at its line', async () => {
  const user = userEvent.setup();
  backend.wildcards.set('colours', 'red\n');
  renderPage(<Wildcards />);
  await user.click(await screen.findByRole('button', { name: 'Edit colours' }));
  const options = await screen.findByLabelText('Options');
  expect(options).toHaveValue('red\n');
  const save = backend.wildcards_save.bind(backend);
  backend.wildcards_save = () => {
    throw new ApiError({
      code: 'invalid_input',
      field: 'text',
      line: 2,
      message: 'column 1: the choice that begins here is not closed',
      hint: 'Write } where it ends.',
    });
  };
  await user.type(options, 'blue');
  await user.click(screen.getByRole('button', { name: 'Save' }));
  expect(await screen.findByText(/^Line 2, column 1: the choice/)).toBeInTheDocument();
  backend.wildcards_save = save;
  await user.click(screen.getByRole('button', { name: 'Save' }));
  await waitFor(() => expect(backend.wildcards.get('colours')).toBe('red\nblue'));
});

it('deletes a list at once', async () => {
  const user = userEvent.setup();
  backend.wildcards.set('colours', 'red\n');
  renderPage(<Wildcards />);
  await user.click(await screen.findByRole('button', { name: 'Delete colours' }));
  expect(await screen.findByText('No lists yet')).toBeInTheDocument();
  expect(backend.wildcards.size).toBe(0);
});
