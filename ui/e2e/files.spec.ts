// Files that people bring, against the real server with the built-in model.
import { join } from 'node:path';

import { expect, expectDecoded, go, test } from './studio';
import { layWeightsFiles } from './weights-files';

test('a LoRA file says what of it fits before it runs, and one of another family is refused', async ({
  page,
  studio,
}) => {
  layWeightsFiles(join(studio.folder, 'models'));
  await go(page, studio, '/create');
  await page.getByLabel('Prompt', { exact: true }).fill('a lighthouse drawn in ink');
  const generate = page.getByRole('button', { name: /^Generate/ });

  await page.getByRole('button', { name: 'Add a LoRA' }).click();
  await page.getByRole('option', { name: /portrait/ }).click();
  const portrait = page.getByRole('group', { name: 'portrait' });
  await expect(
    portrait.getByText(/none of its 3 tensors fits this model.*made for SD 1\.x/),
  ).toBeVisible();
  await expect(generate).toBeDisabled();
  await page.getByRole('button', { name: 'Remove portrait' }).click();

  await page.getByRole('button', { name: 'Add a LoRA' }).click();
  await page.getByRole('combobox', { name: 'Search LoRA files' }).fill('ink');
  await page.keyboard.press('Enter');
  const ink = page.getByRole('group', { name: 'ink' });
  await expect(ink.getByText(/^4 of 6 tensors applied · /)).toBeVisible();
  await expect(
    ink.getByText(/2 tensors left out: .*blocks\.99.*the model has no such layer/),
  ).toBeVisible();
  await generate.click();
  await expectDecoded(page, 'a lighthouse drawn in ink');
  const { assets } = await studio.ask<{
    assets: { recipe: { plan: { loras: { name: string; sha256: string }[] } } }[];
  }>('GET', '/api/assets');
  const [lora] = assets[0]!.recipe.plan.loras;
  expect(lora?.name).toBe('ink');
  expect(lora?.sha256).toMatch(/^[0-9a-f]{64}$/);
});

test('a pickle is refused by what is in it, whatever its name', async ({ page, studio }) => {
  layWeightsFiles(join(studio.folder, 'models'));
  await go(page, studio, '/models');
  const unusable = page.getByRole('region', { name: 'Files that cannot be used' });
  const row = unusable.getByRole('listitem').filter({ hasText: 'old-model.safetensors' });
  await expect(row).toContainText('it is a pickle');
  await expect(row).toContainText('can run programs when it is opened');
});
