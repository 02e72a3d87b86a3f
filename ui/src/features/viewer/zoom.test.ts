import { describe, expect, it } from 'vitest';

import { actualScale, fitted, zoomAt } from './zoom';

describe('zoom', () => {
  it('keeps the point under the pointer where it is', () => {
    const at = { x: 100, y: -40 };
    const view = zoomAt(fitted, 2, at);
    // The picture's point that was at `at` moved to x + scale * point.
    expect(view.x + view.scale * (at.x / fitted.scale)).toBeCloseTo(at.x);
    expect(view.y + view.scale * (at.y / fitted.scale)).toBeCloseTo(at.y);
  });
  it('never gets smaller than its frame, nor lost', () => {
    expect(zoomAt({ scale: 1.2, x: 30, y: 9 }, 0.5, { x: 0, y: 0 })).toEqual(fitted);
    expect(zoomAt(fitted, 1000, { x: 0, y: 0 }).scale).toBe(16);
  });
  it('knows one to one', () => {
    expect(actualScale({ width: 2000, height: 1000 }, { width: 1000, height: 1000 }, 1)).toBe(2);
    expect(actualScale({ width: 2000, height: 1000 }, { width: 1000, height: 1000 }, 2)).toBe(1);
  });
});
