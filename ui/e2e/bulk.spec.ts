// A list: checked while it is written, run, looked at, exported.
import type { Page } from '@playwright/test';
import { readFile } from 'node:fs/promises';

import { expect, expectDecoded, go, test } from './studio';

const LIST = [
  'prompt,season,seed,width,height',
  '"rolling hills in {season}, a white windmill",spring,3,256,256',
  '"a red cabin by a lake in {season}",winter,4,320,192',
  '"a meadow with poppies in {season}",summer,5,,',
].join('\n');

async function write(page: Page, text: string): Promise<void> {
  await page.getByLabel('Prompt list').click();
  await page.keyboard.press('Control+A');
  await page.keyboard.insertText(text);
}

test('bad rows are named before anything is queued, and one can jump to them', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/bulk');
  await write(page, `${LIST}\n"a bad one",autumn,abc,,\n"another",autumn,6,99999,`);
  await page.getByRole('button', { name: '2 problems' }).click();
  await expect(page.getByRole('button', { name: /^Line 5/ })).toBeVisible();
  await expect(page.getByRole('button', { name: /^Line 6/ })).toBeVisible();
  await expect(page.getByRole('button', { name: /^Run the list/ })).toBeDisabled();
  await page.getByRole('button', { name: /^Line 6/ }).click();
  await expect(page.locator('.cm-activeLine')).toContainText('another');
});

test('a list becomes a contact sheet and a table', async ({ page, studio }) => {
  await go(page, studio, '/bulk');
  await write(page, LIST);
  await expect(page.getByText('3 rows, 3 pictures')).toBeVisible();
  await page.getByRole('button', { name: /^Run the list/ }).click();
  await expect(page.getByRole('heading', { level: 1, name: /rolling hills/ })).toBeVisible();
  await expect(page.getByText(/^Finished/)).toBeVisible({ timeout: 150_000 });
  await expect(page.getByRole('button', { name: /^\d+: Done\./ })).toHaveCount(3);

  // Row by row: what became of each.
  await page.getByRole('radio', { name: 'Table' }).click();
  const rows = page.getByRole('table', { name: 'Rows of the list' }).getByRole('row');
  await expect(rows).toHaveCount(4);
  await expect(rows.filter({ hasText: 'in winter' })).toContainText('320 × 192');
  await expect(rows.filter({ hasText: 'Done' })).toHaveCount(3);
  await page.getByRole('radio', { name: 'Contact sheet' }).click();

  const waiting = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Export table' }).click();
  await page.getByRole('menuitem', { name: 'CSV' }).click();
  const table = await readFile(await (await waiting).path(), 'utf8');
  expect(table.trim().split('\n')).toHaveLength(4);
  expect(table).toContain('a red cabin by a lake in winter');

  await page.getByRole('button', { name: 'Contact sheet' }).click();
  await expect(page.getByText('Contact sheet of 3 pictures drawn.')).toBeVisible();

  await page.getByRole('button', { name: /winter/ }).click();
  await expectDecoded(page, 'a red cabin by a lake in winter');
});

test('a dropped file opens on the Bulk page, and the rest of a run can be cancelled', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/create');
  const rows = Array.from({ length: 40 }, (_, i) => `a hill number ${i}`).join('\n');
  const drop = await page.evaluateHandle((text) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], 'hills.txt', { type: 'text/plain' }));
    return transfer;
  }, rows);
  await page.dispatchEvent('body', 'drop', { dataTransfer: drop });
  await expect(page.getByText('40 rows, 40 pictures')).toBeVisible();
  await page.getByRole('button', { name: /^Run the list/ }).click();
  await expect(page.getByRole('heading', { name: 'hills.txt' })).toBeVisible();
  await expect(page.getByRole('button', { name: /^\d+: Done\./ }).first()).toBeVisible();
  await page.getByRole('button', { name: 'Cancel the rest' }).click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Cancel the rest' }).click();
  await expect(page.getByText(/^Finished/)).toBeVisible();
  const { counts } = await studio.ask<{ counts: Record<string, number> }>('GET', '/api/queue');
  expect(counts.done! + counts.cancelled!).toBe(40);
  expect(counts.cancelled).toBeGreaterThan(0);
});
