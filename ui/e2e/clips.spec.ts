// A clip from a dropped picture, against the real server with the built-in models.
import type { Page } from '@playwright/test';
import { expect, go, test } from './studio';

interface Assets {
  assets: {
    kind: string;
    recipe: { plan: { mode: string; model: { id: string }; video?: { frames: number } } };
  }[];
}

/** Drops a picture as the starter paints them: a sky, a sun and some land. */
async function dropPicture(page: Page): Promise<void> {
  const drop = await page.evaluateHandle(async () => {
    const canvas = new OffscreenCanvas(256, 256);
    const context = canvas.getContext('2d')!;
    const fill = (colour: string, draw: () => void) => {
      context.fillStyle = colour;
      draw();
    };
    fill('#80c4f2', () => context.fillRect(0, 0, 256, 256));
    fill('#fff096', () => {
      context.beginPath();
      context.arc(64, 60, 22, 0, 2 * Math.PI);
      context.fill();
    });
    fill('#54a048', () => context.fillRect(0, 150, 256, 106));
    const transfer = new DataTransfer();
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    transfer.items.add(new File([blob], 'land.png', { type: 'image/png' }));
    return transfer;
  });
  await page.dispatchEvent('body', 'drop', { dataTransfer: drop });
}

test('a dropped picture becomes a clip that plays, and steps frame by frame', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/create');
  await page.getByRole('button', { name: /^Model/ }).click();
  await page.getByRole('option', { name: /Kinora Video Starter/ }).click();
  await dropPicture(page);
  await expect(page.getByText('256 × 256 pixels', { exact: true })).toBeVisible();
  await page.getByLabel('Prompt', { exact: true }).fill('the sun sets');
  await page.getByRole('textbox', { name: 'Frames', exact: true }).fill('9');
  await page.getByRole('button', { name: /^Generate/ }).click();

  const video = page.locator('video').first();
  await expect(video).toBeVisible();
  const facts = () => video.evaluate((v: HTMLVideoElement) => [v.videoWidth, v.duration]);
  await expect.poll(async () => (await facts())[0]).toBe(256);
  expect((await facts())[1]).toBeCloseTo(9 / 16, 1);
  const { assets } = await studio.ask<Assets>('GET', '/api/assets');
  expect(assets[0]!.kind).toBe('video');
  expect(assets[0]!.recipe.plan.mode).toBe('image_to_video');
  expect(assets[0]!.recipe.plan.model.id).toBe('starter-video');
  expect(assets[0]!.recipe.plan.video?.frames).toBe(9);

  // It plays by itself, over and over; then it is stepped through.
  const now = () => video.evaluate((v: HTMLVideoElement) => v.currentTime);
  const seen = new Set<number>();
  await expect
    .poll(async () => seen.add(Math.round((await now()) * 16)).size, { intervals: [60] })
    .toBeGreaterThan(3);
  await page.getByRole('button', { name: 'To the first frame' }).click();
  await expect(page.getByText('frame 1 of 9')).toBeVisible();
  await page.getByRole('button', { name: 'One frame on' }).click();
  await expect(page.getByText('frame 2 of 9')).toBeVisible();
  await expect.poll(now).toBeGreaterThan(1 / 16 - 0.01);
  expect(await video.evaluate((v: HTMLVideoElement) => v.paused)).toBe(true);
});
