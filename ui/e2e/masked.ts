// What a mask protects, counted in the files themselves.
import { expect } from '@playwright/test';
import { decode, type DecodedPng } from 'fast-png';

/** More than the band, a 64th of the picture's side, in which new and old flow into each other. */
const BAND = 8;

const pixel = ({ data, width, channels }: DecodedPng, x: number, y: number) =>
  [...data.slice((y * width + x) * channels, (y * width + x) * channels + 3)].join();

function isNearMask(mask: DecodedPng, x: number, y: number): boolean {
  for (let row = Math.max(0, y - BAND); row <= Math.min(mask.height - 1, y + BAND); row += 1) {
    for (
      let column = Math.max(0, x - BAND);
      column <= Math.min(mask.width - 1, x + BAND);
      column += 1
    ) {
      if (mask.data[(row * mask.width + column) * mask.channels]! >= 128) return true;
    }
  }
  return false;
}

/** Outside of the mask and its band every pixel is the source's; inside it was painted anew. */
export function expectOnlyMaskedChanged(source: Uint8Array, result: Uint8Array, mask: Uint8Array) {
  const [before, after, painted] = [decode(source), decode(result), decode(mask)];
  expect([after.width, after.height]).toEqual([before.width, before.height]);
  expect([painted.width, painted.height]).toEqual([before.width, before.height]);
  const count = { outside: 0, changedOutside: 0, inside: 0, changedInside: 0 };
  for (let y = 0; y < before.height; y += 1) {
    for (let x = 0; x < before.width; x += 1) {
      const changed = pixel(before, x, y) === pixel(after, x, y) ? 0 : 1;
      if (painted.data[(y * painted.width + x) * painted.channels]! >= 128) {
        count.inside += 1;
        count.changedInside += changed;
      } else if (!isNearMask(painted, x, y)) {
        count.outside += 1;
        count.changedOutside += changed;
      }
    }
  }
  expect(count.outside).toBeGreaterThan(1000);
  expect(count.changedOutside).toBe(0);
  expect(count.inside).toBeGreaterThan(100);
  expect(count.changedInside).toBeGreaterThan(count.inside / 2);
}
