// The desktop window as a user has it: a prompt is typed, a picture is seen, a list is run, a dropped
// picture begins to move; a picture becomes another, part of it is painted anew, and files that people
// bring say what they are good for.
import { expect, test as base } from '@playwright/test';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { expectOnlyMaskedChanged } from '../masked';
import { layWeightsFiles } from '../weights-files';
import { DesktopWindow } from './window';

const PROMPT = "//textarea[@id=//label[normalize-space()='Prompt']/@for]";
const GENERATE = "//button[starts-with(normalize-space(), 'Generate') and not(@aria-disabled)]";

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

/** Pictures that the studio has saved, the oldest first. */
function savedPictures(data: string): string[] {
  const outputs = join(data, 'outputs');
  return readdirSync(outputs, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.png'))
    .map((path) => join(outputs, path))
    .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
}

interface Desk {
  /** The data folder, empty but for what a test laid into it. */
  data: string;
  open(): Promise<DesktopWindow>;
}

const test = base.extend<{ desk: Desk }>({
  // eslint-disable-next-line no-empty-pattern
  desk: async ({}, use) => {
    const data = mkdtempSync(join(tmpdir(), 'kinora-desktop-'));
    const windows: DesktopWindow[] = [];
    try {
      await use({
        data,
        open: async () => {
          const options = { programs: findPrograms(), data, width: 1280, height: 800 };
          const window = await DesktopWindow.open(options);
          windows.push(window);
          return window;
        },
      });
    } finally {
      for (const window of windows) await window.close();
      rmSync(data, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
    }
  },
});

/** Types a prompt, asks for its picture and waits until its bytes have been decoded: that an element
 * is there does not say that anything is seen. */
async function paint(window: DesktopWindow, prompt: string): Promise<void> {
  await window.type(PROMPT, prompt);
  await window.click(GENERATE);
  await window.waitFor(`
    return [...document.images].some((image) =>
      image.alt.includes(${JSON.stringify(prompt)}) && image.complete && image.naturalWidth >= 256)`);
}

test('a prompt becomes a picture in the window, a dropped list several, and a dropped picture a clip', async ({
  desk,
}, info) => {
  const { data } = desk;
  const window = await desk.open();
  await paint(window, 'a red house in front of snowy mountains at sunset');
  await window.screenshot(info.outputPath('create.png'));

  const list = join(data, 'evening.txt');
  writeFileSync(list, 'the sea at sunset\na city skyline at night\nsand dunes by day\n');
  await window.drop(list);
  await window.click("//button[starts-with(normalize-space(), 'Run the list') and not(@disabled)]");
  await window.find("//h1[normalize-space()='evening.txt']");
  await window.waitFor(
    `return document.querySelectorAll('button[aria-label*=": Done."]').length === 3`,
  );
  await window.screenshot(info.outputPath('bulk.png'));
  expect(await window.execute('return location.hash')).toContain('/bulk');

  await window.execute(`location.hash = '#/video'`);
  await window.find("//form[@aria-label='New clip']");
  await window.drop(savedPictures(data)[0]!);
  await window.type(`//form[@aria-label='New clip']${PROMPT}`, 'the sun sets');
  await window.click("//button[starts-with(normalize-space(), 'Draft') and not(@aria-disabled)]");
  // It plays: its frames are decoded and time goes by.
  await window.waitFor(`
    const clip = document.querySelector('main video');
    if (!clip || clip.readyState < 2) return false;
    if (clip.paused) void clip.play();
    return clip.videoWidth >= 128 && clip.currentTime > 0.2;`);
  await window.screenshot(info.outputPath('video.png'));
});

test('in the window a picture becomes another, and under a mask only its part', async ({
  desk,
}, info) => {
  const { data } = desk;
  const window = await desk.open();
  await paint(window, 'a forest in the snow at dawn');
  await window.click("//button[normalize-space()='Use the one on the stage']");
  await window.find("//*[normalize-space()='256 × 256 pixels']");
  await paint(window, 'a forest at dusk');
  await window.screenshot(info.outputPath('image-to-image.png'));

  await window.click("//button[normalize-space()='Paint a mask']");
  await window.find("//*[@role='dialog']//*[@role='application']");
  await window.execute(`document.querySelector('[role=dialog] [role=application]').focus()`);
  const [left, space] = ['\uE012', ' '];
  await window.press(']', left, space);
  await window.screenshot(info.outputPath('mask.png'));
  await window.click("//*[@role='dialog']//button[normalize-space()='Use this mask']");
  await window.find("//button[normalize-space()='Change the mask']");
  await paint(window, 'a red house in the snow');
  await window.screenshot(info.outputPath('inpaint.png'));

  const pictures = savedPictures(data).map((path) => readFileSync(path));
  expect(pictures).toHaveLength(3);
  const [source, , result] = pictures as [Buffer, Buffer, Buffer];
  const inputs = readdirSync(join(data, 'inputs'), { recursive: true, encoding: 'utf8' })
    .map((path) => join(data, 'inputs', path))
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path));
  const [mask, ...others] = inputs.filter((bytes) => !bytes.equals(source));
  expect(others, 'besides the source the mask is the only input').toHaveLength(0);
  expectOnlyMaskedChanged(source, result, mask!);
});

test('in the window a LoRA file says what of it fits, and a pickle is refused', async ({
  desk,
}, info) => {
  layWeightsFiles(join(desk.data, 'models'));
  const window = await desk.open();
  const choose = async (name: string) => {
    await window.click("//button[normalize-space()='Add a LoRA']");
    await window.click(`//*[@role='option'][contains(., '${name}')]`);
  };
  await window.type(PROMPT, 'a lighthouse drawn in ink');
  await choose('portrait');
  await window.find(
    "//*[@role='group'][@aria-label='portrait']//*[contains(., 'made for SD 1.x')]",
  );
  await window.find("//button[starts-with(normalize-space(), 'Generate') and @aria-disabled]");
  await window.click("//button[@aria-label='Remove portrait']");
  await choose('ink');
  await window.find(
    "//*[@role='group'][@aria-label='ink']//*[contains(., '4 of 6 tensors applied')]",
  );
  await window.execute(`document.querySelector('[role=group][aria-label=ink]').scrollIntoView()`);
  await window.screenshot(info.outputPath('lora.png'));
  await paint(window, 'a lighthouse drawn in ink');

  await window.execute(`location.hash = '#/models'`);
  const row = "//li[contains(., 'old-model.safetensors')][contains(., 'it is a pickle')]";
  await window.find(`//section[h2[normalize-space()='Files that cannot be used']]${row}`);
  await window.execute(`document.getElementById('unusable-files').scrollIntoView()`);
  await window.screenshot(info.outputPath('pickle.png'));
});
