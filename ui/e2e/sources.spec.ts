// Starting from pictures, against the real server with the built-in model.
import { expectOnlyMaskedChanged } from './masked';
import { expect, expectDecoded, go, test } from './studio';

interface Assets {
  assets: {
    id: string;
    recipe: {
      plan: {
        mode: string;
        seed: number | string;
        source?: { image: { sha256: string }; mask?: { sha256: string }; strength?: number };
      };
    };
  }[];
  total: number;
}

test('a result becomes the source of the next picture, and its settings carry it', async ({
  page,
  studio,
}) => {
  await studio.ask('POST', '/api/jobs', { prompt: 'a red lighthouse by the sea', seed: 5 });
  await studio.rest();
  await go(page, studio, '/create');
  await expectDecoded(page, 'a red lighthouse by the sea');
  await page.getByRole('button', { name: 'Use the one on the stage' }).click();
  await expect(page.getByText('256 × 256 pixels', { exact: true })).toBeVisible();

  await page.getByLabel('Prompt', { exact: true }).fill('a white lighthouse in the snow');
  await page.getByLabel('Seed', { exact: true }).fill('9');
  await page.getByRole('textbox', { name: 'Strength' }).fill('0.6');
  await page.getByRole('button', { name: /^Generate/ }).click();
  await expectDecoded(page, 'a white lighthouse in the snow');
  await expect(page.getByText('seed 9 ')).toBeVisible();

  const { assets, total } = await studio.ask<Assets>('GET', '/api/assets');
  expect(total).toBe(2);
  const { plan } = assets[0]!.recipe;
  expect(plan.mode).toBe('image_to_image');
  expect(plan.seed).toBe(9);
  expect(plan.source?.strength).toBeCloseTo(0.6);
  expect(plan.source?.image.sha256).toMatch(/^[0-9a-f]{64}$/);

  // "Use these settings again" brings the picture back that was taken out of the form.
  await page.getByRole('button', { name: 'Remove: start from a picture' }).click();
  await expect(page.getByRole('button', { name: 'Use the one on the stage' })).toBeVisible();
  await page.getByRole('button', { name: 'Use these settings again' }).click();
  await expectDecoded(page, 'Start from a picture');
  await expect(page.getByRole('textbox', { name: 'Strength' })).toHaveValue('0.6');
});

test('a mask is painted over a picture, and only there is painted anew', async ({
  page,
  studio,
}) => {
  await studio.ask('POST', '/api/jobs', { prompt: 'a forest in the snow at dawn', seed: 3 });
  await studio.rest();
  await go(page, studio, '/gallery');
  await page.getByRole('option').first().click();
  await page.getByRole('button', { name: 'Start from this picture' }).click();
  await expectDecoded(page, 'Start from a picture');

  await page.getByRole('button', { name: 'Paint a mask' }).click();
  const painter = page.getByRole('dialog', { name: 'Paint a mask' });
  const surface = painter.getByRole('application');
  await surface.focus();
  await page.keyboard.press(']');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Space');
  await painter.getByRole('button', { name: 'Use this mask' }).click();
  await expect(painter).toBeHidden();
  await expect(page.getByRole('button', { name: 'Change the mask' })).toBeVisible();

  await page.getByLabel('Prompt', { exact: true }).fill('a red house in the snow');
  await page.getByRole('button', { name: /^Generate/ }).click();
  await expectDecoded(page, 'a red house in the snow');
  const { assets } = await studio.ask<Assets>('GET', '/api/assets');
  const { plan } = assets[0]!.recipe;
  expect(plan.mode).toBe('inpaint');
  expect(plan.source?.mask?.sha256).toMatch(/^[0-9a-f]{64}$/);
  const [source, result, mask] = await Promise.all([
    studio.read(`/media/assets/${assets[1]!.id}`),
    studio.read(`/media/assets/${assets[0]!.id}`),
    studio.read(`/media/inputs/${plan.source!.mask!.sha256}`),
  ]);
  expectOnlyMaskedChanged(source, result, mask);
});

test('a dropped picture without settings goes into the form', async ({ page, studio }) => {
  await go(page, studio, '/queue');
  const drop = await page.evaluateHandle(async () => {
    const canvas = new OffscreenCanvas(320, 192);
    const context = canvas.getContext('2d')!;
    context.fillStyle = '#48a';
    context.fillRect(0, 0, 320, 192);
    const transfer = new DataTransfer();
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    transfer.items.add(new File([blob], 'sea.png', { type: 'image/png' }));
    return transfer;
  });
  await page.dispatchEvent('body', 'drop', { dataTransfer: drop });
  await expect(page.getByText('320 × 192 pixels', { exact: true })).toBeVisible();
  await expect(page.getByText('shaped like the picture')).toBeVisible();
});
