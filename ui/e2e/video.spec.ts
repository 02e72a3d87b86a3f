// From a picture to a draft clip and from the draft to the whole, with a tiny network that paints
// nothing one would know, and everything around it real.
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { expect, go, test, type Studio } from './studio';

interface Asset {
  id: string;
  kind: string;
  clip?: { frames: number };
  recipe: { plan: { seed: number; steps: number; draft?: object; parent?: string } };
}

const model = resolve(
  import.meta.dirname,
  '../../tools/goldens/cases/wan22_ti2v_5b_i2v_heldout/model',
);
const MODELS = `
[[model]]
id = "tiny-video"
name = "Tiny Video"
family = "wan"
variant = "2.2-ti2v-5b"
path = ${JSON.stringify(model)}
category = "video"
tags = ["video"]
description = "For tests."
size_gb = 0.01
example_prompts = ["the tide comes in"]

[model.capabilities]
modes = ["image_to_video", "text_to_video"]
steps = { min = 1, max = 100, default = 10 }
true_cfg = { min = 1.0, max = 20.0, default = 3.0 }
cfg_always = true
copies = { min = 1, max = 8, default = 1 }
prompt_chars = 2000
text_tokens = 512
samplers = ["unipc"]
schedules = ["automatic"]

[model.capabilities.video]
frames = { min = 1, max = 121, default = 17 }
frame_step = 4
fps = { min = 1, max = 60, default = 4 }
shift = { min = 0.1, max = 20.0, default = 5.0 }

[model.capabilities.size]
min = 64
max = 512
multiple = 32
default = { width = 128, height = 128 }
presets = [{ label = "1:1", width = 128, height = 128 }]
`;

/** A studio that makes clips. */
async function withVideo(studio: Studio): Promise<void> {
  await studio.stop();
  writeFileSync(join(studio.folder, 'models.toml'), MODELS);
  await studio.start();
  // The built-in model makes clips too.
  await studio.ask('PATCH', '/api/settings', { clip_model: 'tiny-video' });
}

const clips = async (studio: Studio) =>
  (await studio.ask<{ assets: Asset[] }>('GET', '/api/assets?kind=video&sort=oldest')).assets;

test('a picture of the gallery moves with one key, and its draft is made full with another', async ({
  page,
  studio,
}) => {
  await withVideo(studio);
  await studio.ask('POST', '/api/jobs', { prompt: 'a lighthouse by the sea', seed: 5 });
  await studio.rest();
  await go(page, studio, '/gallery');
  await expect(page.getByRole('option', { name: 'a lighthouse by the sea' })).toBeVisible();
  const grid = page.getByRole('listbox', { name: 'Pictures' });
  await grid.focus();
  await page.keyboard.press('v');
  await expect(page.getByText('1 draft clip in the queue.')).toBeVisible();
  await expect(page.getByRole('option', { name: /^Draft\. Video/ })).toBeVisible({
    timeout: 120_000,
  });
  await grid.focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('d');
  await expect(page.getByText('Queued in full.')).toBeVisible();
  await expect.poll(async () => (await clips(studio)).length, { timeout: 120_000 }).toBe(2);

  const [draft, full] = (await clips(studio)) as [Asset, Asset];
  expect(draft.clip?.frames).toBe(9);
  expect(draft.recipe.plan.steps).toBe(8);
  expect(full.clip?.frames).toBe(17);
  expect(full.recipe.plan.steps).toBe(10);
  expect(full.recipe.plan.seed).toBe(draft.recipe.plan.seed);
  expect(full.recipe.plan.parent).toBe(draft.id);

  // The viewer leads from one to the other, and to the picture that both begin with.
  await go(page, studio, `/gallery?asset=${full.id}`);
  await page.getByRole('button', { name: /^Makes full: / }).click();
  await expect(page).toHaveURL(new RegExp(`asset=${draft.id}`));
  await expect(page.getByRole('button', { name: /^This in full: / })).toBeVisible();
  await page.getByRole('button', { name: /^Begins with: / }).click();
  await expect(page.getByRole('button', { name: 'Start from this picture' })).toBeVisible();
});

test('the Video page makes a draft and then the whole, and shows the clips', async ({
  page,
  studio,
}) => {
  await withVideo(studio);
  await go(page, studio, '/video');
  await expect(page.getByText('Your first clip')).toBeVisible();
  await page.getByLabel('Prompt', { exact: true }).fill('the tide comes in');
  await expect(page.getByText('128 × 128 · 9 frames · 2.3 s · 8 steps')).toBeVisible();
  await expect(page.getByText('128 × 128 · 17 frames · 4.3 s · 10 steps')).toBeVisible();
  await page.getByRole('button', { name: /^Draft/ }).click();
  await expect(page.getByRole('group', { name: 'Player' })).toBeVisible({ timeout: 120_000 });
  await page.getByRole('button', { name: 'Make it full' }).click();
  await expect
    .poll(async () => (await clips(studio)).at(-1)?.clip?.frames, { timeout: 120_000 })
    .toBe(17);
  await expect(page.getByRole('button', { name: 'Make it full' })).toBeHidden();
  await expect(page.getByRole('group', { name: 'Player' })).toBeVisible();
});

test('a picture that is dropped on the sign moves at once', async ({ page, studio }) => {
  await withVideo(studio);
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
  await page.dispatchEvent('body', 'dragenter', { dataTransfer: drop });
  const box = (await page.getByText('Make it move', { exact: true }).boundingBox())!;
  await page.dispatchEvent('body', 'drop', {
    dataTransfer: drop,
    clientX: box.x + 5,
    clientY: box.y + 5,
  });
  await expect(page.getByText('1 draft clip in the queue.')).toBeVisible();
  await page.getByRole('button', { name: 'Watch' }).click();
  await expect(page.getByRole('group', { name: 'Player' })).toBeVisible({ timeout: 120_000 });
  const [clip] = await clips(studio);
  expect(clip?.recipe.plan.draft).toBeTruthy();
});

test('without a model for clips, the page says what to do', async ({ page, studio }) => {
  await go(page, studio, '/video');
  const empty = page.getByText('No model for clips yet');
  // A studio whose built-in models make clips has its form instead.
  await expect(empty.or(page.getByRole('form', { name: 'New clip' }))).toBeVisible();
  if (await empty.isVisible()) {
    await page.getByRole('button', { name: 'To the models' }).click();
    await expect(page.getByRole('heading', { name: 'Models', level: 1 })).toBeVisible();
  }
});

test('a list takes pictures for its rows', async ({ page, studio }) => {
  await go(page, studio, '/bulk');
  const bytes = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(128, 128);
    canvas.getContext('2d')!.fillRect(0, 0, 64, 64);
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    return [...new Uint8Array(await blob.arrayBuffer())];
  });
  await page.getByLabel('Pictures of the rows: files').setInputFiles({
    name: 'square.png',
    mimeType: 'image/png',
    buffer: Buffer.from(bytes),
  });
  await expect(page.getByText('square.png', { exact: true })).toBeVisible();
  await expect(page.getByRole('textbox', { name: 'Prompt list' })).toContainText('square.png');
});
