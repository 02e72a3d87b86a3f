// The desktop window as a user has it: a prompt is typed, a picture is seen, a list is run, and a
// dropped picture begins to move.
import { expect, test } from '@playwright/test';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { DesktopWindow } from './window';

const PROMPT = 'a red house in front of snowy mountains at sunset';

function findPrograms(): string {
  const root = resolve(import.meta.dirname, '../../..');
  const places = [
    process.env.KINORA_PROGRAMS,
    join(root, 'target/release'),
    join(root, 'target/debug'),
  ];
  const found = places.find((place) => place && existsSync(join(place, 'kinora-desktop')));
  if (!found) throw new Error('Build kinora-desktop and kinora-engine first.');
  return found;
}

/** A picture that the studio has saved. */
function savedPicture(data: string): string {
  const outputs = join(data, 'outputs');
  const names = readdirSync(outputs, { recursive: true, encoding: 'utf8' });
  const name = names.find((path) => path.endsWith('.png'));
  if (!name) throw new Error('No picture was saved.');
  return join(outputs, name);
}

test('a prompt becomes a picture in the window, a dropped list several, and a dropped picture a clip', async ({
  baseURL: _none,
}, info) => {
  const data = mkdtempSync(join(tmpdir(), 'kinora-desktop-'));
  const window = await DesktopWindow.open({
    programs: findPrograms(),
    data,
    width: 1280,
    height: 800,
  });
  try {
    await window.type("//textarea[@id=//label[normalize-space()='Prompt']/@for]", PROMPT);
    await window.click(
      "//button[starts-with(normalize-space(), 'Generate') and not(@aria-disabled)]",
    );
    // A picture counts as seen when its bytes have been decoded, not when its element is there.
    await window.waitFor(`
      return [...document.images].some(
        (image) => image.alt.includes('red house') && image.complete && image.naturalWidth >= 256,
      )`);
    await window.screenshot(info.outputPath('create.png'));

    const list = join(data, 'evening.txt');
    writeFileSync(list, 'the sea at sunset\na city skyline at night\nsand dunes by day\n');
    await window.drop(list);
    await window.click(
      "//button[starts-with(normalize-space(), 'Run the list') and not(@disabled)]",
    );
    await window.find("//h1[normalize-space()='evening.txt']");
    await window.waitFor(
      `return document.querySelectorAll('button[aria-label*=": Done."]').length === 3`,
    );
    await window.screenshot(info.outputPath('bulk.png'));
    expect(await window.execute('return location.hash')).toContain('/bulk');

    await window.execute(`location.hash = '#/video'`);
    await window.find("//form[@aria-label='New clip']");
    await window.drop(savedPicture(data));
    await window.type(
      "//form[@aria-label='New clip']//textarea[@id=//label[normalize-space()='Prompt']/@for]",
      'the sun sets',
    );
    await window.click("//button[starts-with(normalize-space(), 'Draft') and not(@aria-disabled)]");
    // It plays: its frames are decoded and time goes by.
    await window.waitFor(`
      const clip = document.querySelector('main video');
      if (!clip || clip.readyState < 2) return false;
      if (clip.paused) void clip.play();
      return clip.videoWidth >= 128 && clip.currentTime > 0.2;`);
    await window.screenshot(info.outputPath('video.png'));
  } finally {
    await window.close();
    rmSync(data, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }
});
