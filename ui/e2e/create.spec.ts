// Making one picture: from the prompt to the file, and what may happen on the way.
import type { Page } from '@playwright/test';

import { A1111, COMFYUI } from './foreign-png';
import { expect, expectDecoded, go, test, type Studio } from './studio';

const PROMPT = 'a snowy mountain under a pink dawn, two pine trees';

const isFocused = (element: Element) => element === document.activeElement;

/**
 * Starts a picture that takes long enough for something to happen to it on any machine: the largest
 * size and the most steps, some fifty times the work of the usual one.
 */
async function startLongOne(page: Page, studio: Studio): Promise<void> {
  await go(page, studio, '/create');
  await page.getByLabel('Prompt', { exact: true }).fill(PROMPT);
  await page.getByLabel('Width in pixels').fill('512');
  await page.getByLabel('Height in pixels').fill('512');
  await page.getByRole('textbox', { name: 'Steps' }).fill('50');
  await page.getByRole('button', { name: /^Generate/ }).click();
  await expect(page.getByText(/^Painting · step/).first()).toBeVisible();
}

async function dropPicture(page: Page, bytes: Uint8Array): Promise<void> {
  const drop = await page.evaluateHandle((data) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(data)], 'dropped.png', { type: 'image/png' }));
    return transfer;
  }, Array.from(bytes));
  await page.dispatchEvent('body', 'drop', { dataTransfer: drop });
}

test('a prompt becomes a picture, and its settings can be used again', async ({ page, studio }) => {
  await go(page, studio, '/create');
  await page.getByLabel('Prompt', { exact: true }).fill(PROMPT);
  await page.getByLabel('Seed', { exact: true }).fill('7');
  await page.keyboard.press('Control+Enter');
  await expectDecoded(page, PROMPT);
  await expect(page.getByText('seed 7 ')).toBeVisible();

  const { assets, total } = await studio.ask<{ assets: { id: string }[]; total: number }>(
    'GET',
    '/api/assets',
  );
  expect(total).toBe(1);

  // The file, dropped back in, brings its settings with it.
  await page.getByLabel('Prompt', { exact: true }).fill('something else');
  const bytes = await (await fetch(`${studio.url}/media/assets/${assets[0]!.id}`)).arrayBuffer();
  await dropPicture(page, new Uint8Array(bytes));
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue(PROMPT);
  await expect(page.getByLabel('Seed', { exact: true })).toHaveValue('7');
});

test('pictures of other programs give their settings, on any page', async ({ page, studio }) => {
  await go(page, studio, '/gallery');
  await dropPicture(page, A1111);
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue(
    'a calm sea at night, a lighthouse',
  );
  await expect(page.getByLabel('Seed', { exact: true })).toHaveValue('4242');
  await expect(page.getByLabel('Width in pixels')).toHaveValue('320');
  await expect(page.getByLabel('Height in pixels')).toHaveValue('192');
  await expect(page.getByRole('textbox', { name: 'Steps' })).toHaveValue('6');
  await expect(page.getByText('Settings taken over from A1111.')).toBeVisible();

  await dropPicture(page, COMFYUI);
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue('a red barn in the snow');
  await expect(page.getByLabel('Seed', { exact: true })).toHaveValue('777');
  await expect(page.getByLabel('Height in pixels')).toHaveValue('320');
  await expect(page.getByRole('textbox', { name: 'Steps' })).toHaveValue('9');
});

test('everything by keyboard: from the prompt to the picture, to the trash and back', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/queue');
  await page.getByRole('heading', { name: 'Queue' }).waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('c');
  const prompt = page.getByLabel('Prompt', { exact: true });
  await expect(prompt).toBeVisible();
  // The first stop of the Tab key leads past the navigation.
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to the page' })).toBeFocused();
  await page.keyboard.press('Enter');
  for (let stops = 0; stops < 4 && !(await prompt.evaluate(isFocused)); stops += 1) {
    await page.keyboard.press('Tab');
  }
  await expect(prompt).toBeFocused();
  await page.keyboard.type('a lake at dawn');
  await page.keyboard.press('Control+Enter');
  await expectDecoded(page, 'a lake at dawn');

  await page.keyboard.press('Control+k');
  await page.getByRole('combobox').waitFor();
  await page.keyboard.type('Gallery');
  await page.keyboard.press('Enter');
  const grid = page.getByRole('listbox', { name: 'Pictures' });
  await grid.getByRole('option').waitFor();
  await page.keyboard.press('Tab');
  for (let stops = 0; stops < 30 && !(await grid.evaluate(isFocused)); stops += 1) {
    await page.keyboard.press('Tab');
  }
  await expect(grid).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Settings', exact: true })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('heading', { name: 'Settings', exact: true })).toBeHidden();
  await expect(grid).toBeFocused();
  await page.keyboard.press('Delete');
  await expect(page.getByText('No pictures yet')).toBeVisible();
});

test('what cannot be is said at its field, and nothing is queued', async ({ page, studio }) => {
  await go(page, studio, '/create');
  await page.getByLabel('Prompt', { exact: true }).fill(PROMPT);
  await page.getByLabel('Width in pixels').fill('99999');
  const size = page.getByRole('group', { name: 'Size' });
  await expect(size.getByRole('alert').first()).toBeVisible();
  await expect(page.getByRole('button', { name: /^Generate/ })).toBeDisabled();
  await page.keyboard.press('Control+Enter');
  const { total } = await studio.ask<{ total: number }>('GET', '/api/jobs');
  expect(total).toBe(0);
});

test('a running job is cancelled', async ({ page, studio }) => {
  await startLongOne(page, studio);
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Cancelled' })).toBeVisible();
  const { counts } = await studio.ask<{ counts: Record<string, number> }>('GET', '/api/queue');
  expect(counts).toMatchObject({ cancelled: 1, done: 0, failed: 0 });
});

test('a reload in the middle of a job goes on following it', async ({ page, studio }) => {
  await startLongOne(page, studio);
  await page.reload();
  await expect(page.getByText(/^(Painting|Developing|Starting)/).first()).toBeVisible();
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue(PROMPT);
  await expectDecoded(page, PROMPT);
});

test('a server that is killed in the middle of a job finishes it after its restart', async ({
  page,
  studio,
}) => {
  await startLongOne(page, studio);
  await studio.stop('SIGKILL');
  await expect(page.getByText(/Kinora does not answer/)).toBeVisible();
  await studio.start();
  // The page connects again by itself and shows the picture without being touched.
  await expect(page.getByText(/Kinora does not answer/)).toBeHidden();
  await expectDecoded(page, PROMPT);
  const { total } = await studio.ask<{ total: number }>('GET', '/api/assets');
  expect(total).toBe(1);
});
