// Other files for parts of a model: chosen in the form, kept there, and named by the recipe; and in
// lists, beside several pictures of a row and tiles.
import type { Page } from '@playwright/test';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { expectAccessible } from './accessible';
import { expect, expectDecoded, go, test, type Studio } from './studio';

interface Assets {
  assets: {
    id: string;
    recipe: {
      plan: { model: { components?: Record<string, string> }; video?: { vae_tiling?: boolean } };
    };
  }[];
  total: number;
}

/** Puts a VAE where all models find it. */
function addVae(studio: Studio): void {
  const own = 'starter/image/vae/diffusion_pytorch_model.safetensors';
  const folder = join(studio.folder, 'models/vae');
  mkdirSync(folder, { recursive: true });
  copyFileSync(resolve(import.meta.dirname, '../..', own), join(folder, 'tuned.safetensors'));
}

async function write(page: Page, text: string): Promise<void> {
  await page.getByLabel('Prompt list').click();
  await page.keyboard.press('Control+A');
  await page.keyboard.insertText(text);
}

test('a part is chosen from the files that fit, and the recipe names it', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/create');
  const advanced = page.getByRole('button', { name: 'Advanced' });
  await advanced.click();
  await expect(page.getByText(/No other file fits as VAE/)).toBeVisible();
  await expect(page.getByText(join(studio.folder, 'models'), { exact: true })).toBeVisible();
  await expectAccessible(page, 'advanced, without files');

  // A file that is put there meanwhile is there with the next look.
  addVae(studio);
  await page.reload();
  await advanced.click();
  const vae = page.getByRole('combobox', { name: 'VAE' });
  await expect(vae).toHaveText('As in the model');
  await vae.click();
  await expect(page.getByRole('option', { name: /tuned/ })).toContainText('in vae');
  await page.getByRole('option', { name: /tuned/ }).click();
  await expectAccessible(page, 'advanced, with a file');
  await page.getByLabel('Prompt', { exact: true }).fill('a red lighthouse by the sea');
  await page.getByRole('button', { name: /^Generate/ }).click();
  await expectDecoded(page, 'a red lighthouse by the sea');
  const { assets } = await studio.ask<Assets>('GET', '/api/assets');
  expect(assets[0]!.recipe.plan.model.components).toEqual({ vae: 'vae/tuned.safetensors' });

  // The form remembers it, and so does the picture.
  await page.reload();
  await advanced.click();
  await expect(vae).toHaveText('tuned.safetensors');
  await vae.click();
  await page.getByRole('option', { name: /As in the model/ }).click();
  await page.getByRole('button', { name: 'Use these settings again' }).click();
  await expect(vae).toHaveText('tuned.safetensors');
  await go(page, studio, `/gallery?asset=${assets[0]!.id}`);
  await expect(page.getByText('vae/tuned.safetensors')).toBeVisible();
});

test('a list names parts, further pictures and tiles, and what is wrong with each', async ({
  page,
  studio,
}) => {
  addVae(studio);
  await go(page, studio, '/bulk');
  const picture = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(128, 128);
    canvas.getContext('2d')!.fillRect(0, 0, 64, 64);
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    return [...new Uint8Array(await blob.arrayBuffer())];
  });
  await page.getByLabel('Pictures of the rows: files').setInputFiles({
    name: 'square.png',
    mimeType: 'image/png',
    buffer: Buffer.from(picture),
  });
  await expect(page.getByText('square.png', { exact: true })).toBeVisible();
  await write(
    page,
    [
      'prompt,model,image,image_2,strength_2,vae_tiling,components',
      'a hill,starter,square.png,square.png,,,',
      'a hill,starter,,,0.5,,',
      'the sun sets,starter-video,square.png,,,maybe,',
      'a hill,starter,,,,,vae=lost',
    ].join('\n'),
  );
  await page.getByRole('button', { name: '4 problems' }).click();
  for (const problem of [
    /^Line 2 image_2/,
    /^Line 3 strength_2.*no picture before it/,
    /^Line 4 vae_tiling.*yes or no/,
    /^Line 5 components.*tuned/,
  ]) {
    await expect(page.getByRole('button', { name: problem })).toBeVisible();
  }

  await write(
    page,
    [
      'prompt,model,image,vae_tiling,frames,components',
      'a hill by the sea,starter,,,,vae=tuned',
      'the sun sets,starter-video,square.png,yes,9,',
    ].join('\n'),
  );
  await expect(page.getByText('2 rows, 2 pictures')).toBeVisible();
  await page.getByRole('button', { name: /^Run the list/ }).click();
  await expect(page.getByText(/^Finished/)).toBeVisible();
  const { assets } = await studio.ask<Assets>('GET', '/api/assets?sort=oldest');
  const plans = assets.map(({ recipe }) => recipe.plan);
  expect(plans.map(({ model }) => model.components?.vae)).toContain('vae/tuned.safetensors');
  expect(plans.map(({ video }) => video?.vae_tiling)).toContain(true);
});
