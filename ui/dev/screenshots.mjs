// The pictures of the README and the docs: every page of a real studio that has painted the example
// list and made a clip, in light and dark, and the list and the queue while it does. Run by
// `make docs-screenshots`; writes docs/images/*.png.
import { chromium } from '@playwright/test';
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const programs = process.env.KINORA_PROGRAMS ?? join(root, 'target/release');
const out = join(root, 'docs/images');
const data = mkdtempSync(join(tmpdir(), 'kinora-screenshots-'));
const PROMPT = 'a red lighthouse by the sea in daylight, sun on the left, white clouds';
const SEED = '20';

mkdirSync(out, { recursive: true });
// Other files for parts of the model, as people have them.
for (const [own, other] of [
  ['vae/diffusion_pytorch_model', 'vae/ae-tuned'],
  ['text_encoder/model', 'text_encoders/clip_l-tuned'],
  ['text_encoder_2/model', 'text_encoders/t5xxl-tuned'],
]) {
  const file = join(data, `models/${other}.safetensors`);
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(join(root, `starter/image/${own}.safetensors`), file);
}
const server = spawn(join(programs, 'kinora'), ['serve', '--port', '8931', '--json'], {
  env: { ...process.env, KINORA_DATA_DIR: data },
  stdio: ['ignore', 'pipe', 'inherit'],
});
const base = 'http://127.0.0.1:8931';

async function ask(method, path, body) {
  const answer = await fetch(base + path, {
    method,
    body: body && JSON.stringify(body),
    headers: body ? { 'Content-Type': 'application/json' } : {},
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
  return answer.json();
}

async function waitUntil(isSo) {
  for (let tries = 0; tries < 1200; tries += 1) {
    if (await isSo().catch(() => false)) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error('waited for too long');
}

try {
  await waitUntil(async () => (await fetch(`${base}/healthz`)).ok);
  const isIdle = async () => (await ask('GET', '/api/jobs?active=true')).total === 0;
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu'],
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(120_000);
  const go = async (hash) => {
    await page.goto(`${base}/#${hash}`);
    await page.waitForLoadState('networkidle');
  };
  /** Both themes of what is on screen, once its pictures are decoded and nothing fades any more. */
  const shoot = async (name) => {
    for (const theme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await page.evaluate(async () => {
        const inSight = [...document.images].filter(
          (image) => image.getBoundingClientRect().top < innerHeight,
        );
        await Promise.allSettled(inSight.map((image) => image.decode()));
        document.activeElement?.blur?.();
      });
      await page.mouse.move(700, 24); // Nothing is under the pointer.
      await page.waitForTimeout(400);
      await page.screenshot({ path: join(out, `${name}-${theme}.png`) });
    }
  };

  // A picture, made as a user makes it.
  await go('/create');
  await page.getByLabel('Prompt', { exact: true }).fill(PROMPT);
  await page.getByRole('radio', { name: /^5:3/ }).click();
  await page.getByLabel('Seed', { exact: true }).fill(SEED);
  await page.getByRole('textbox', { name: 'Pictures' }).fill('4');
  await page.getByRole('button', { name: /^Generate/ }).click();
  const results = page.getByRole('list', { name: 'Results' });
  await results.getByRole('button', { name: /^Done/ }).nth(3).waitFor();
  await results.getByRole('button', { name: /^Done/ }).first().click();
  await page.getByRole('img', { name: PROMPT }).waitFor();
  await page
    .getByText(/^about .* s/)
    .first()
    .waitFor();
  await page.getByRole('form').evaluate((form) => (form.firstElementChild.scrollTop = 0));
  await shoot('create');
  await page.getByRole('button', { name: 'Advanced' }).click();
  await page.getByRole('combobox', { name: 'VAE' }).click();
  await page.getByRole('option', { name: /ae-tuned/ }).click();
  await page.getByRole('group', { name: 'Parts of the model' }).scrollIntoViewIfNeeded();
  await page
    .getByText(/^about .* s/)
    .first()
    .waitFor();
  await shoot('parts');

  // A list: written, while it is painted, and row by row.
  const text = readFileSync(join(root, 'docs/examples/prompts.csv'), 'utf8');
  await go('/bulk');
  await page.getByLabel('Prompt list').click();
  await page.keyboard.insertText(text);
  await page.getByText(/^\d+ rows, \d+ pictures$/).waitFor();
  await page.locator('.cm-scroller').evaluate((editor) => (editor.scrollTop = 0));
  await shoot('bulk-list');
  const list = await ask('POST', '/api/bulk', { text, name: 'prompts.csv' });
  await go(`/bulk/${list.batch}`);
  await page
    .getByRole('button', { name: /^[\d.]+: Done/ })
    .nth(11)
    .waitFor();
  await shoot('bulk');
  await go('/queue');
  await shoot('queue');
  await waitUntil(isIdle);
  await go(`/bulk/${list.batch}`);
  await page.getByRole('radio', { name: 'Table' }).click();
  await shoot('bulk-table');

  // A clip that begins with a picture, as its page shows it.
  const sun = await ask('POST', '/api/jobs', {
    prompt: 'rolling green hills in the afternoon, the sun in a blue sky',
    seed: 4,
  });
  await waitUntil(isIdle);
  const { assets: begin } = await ask('GET', `/api/assets?batch=${sun.batch}`);
  await go('/video');
  await page.getByLabel('Prompt', { exact: true }).fill('the sun sets');
  await page.getByLabel('Seed', { exact: true }).fill('7');
  await page.evaluate((image) => {
    const form = JSON.parse(localStorage.getItem('kinora.clip') ?? '{}');
    localStorage.setItem('kinora.clip', JSON.stringify({ ...form, image }));
  }, `asset:${begin[0].id}`);
  await page.reload();
  await page.getByRole('button', { name: 'In full' }).click();
  await page.getByRole('group', { name: 'Player' }).waitFor();
  await waitUntil(isIdle);
  /** Nothing moves in a picture of a page: the clip stands in its middle. */
  const stopClip = async () => {
    await page.getByRole('group', { name: 'Player' }).waitFor();
    await page.evaluate(async () => {
      const clip = document.querySelector('main video');
      if (clip.readyState < 1)
        await new Promise((known) =>
          clip.addEventListener('loadedmetadata', known, { once: true }),
        );
      clip.pause();
      clip.currentTime = clip.duration / 2;
      await new Promise((seeked) => clip.addEventListener('seeked', seeked, { once: true }));
    });
  };
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await page.reload();
  await stopClip();
  await page
    .getByText(/^about .* s/)
    .first()
    .waitFor();
  await shoot('video');

  const { assets } = await ask('GET', `/api/assets?limit=1&batch=${list.batch}`);
  await go('/gallery');
  await shoot('gallery');
  await go(`/gallery?asset=${assets[0].id}`);
  await shoot('viewer');
  for (const name of ['sessions', 'models', 'settings']) {
    await go(`/${name}`);
    await shoot(name);
  }
  await go('/settings/system');
  await page.getByText('Engine', { exact: true }).waitFor();
  await shoot('system');
  await page.setViewportSize({ width: 390, height: 844 });
  await go('/gallery');
  await shoot('phone');
  await go('/video');
  await stopClip();
  await shoot('video-phone');
  await browser.close();
} finally {
  server.kill('SIGTERM');
  await new Promise((done) => server.once('exit', done));
  rmSync(data, { recursive: true, force: true });
}
