import { describe, expect, it } from 'vitest';

import { moveByKey, noSelection, selectRange, toggle } from './selection';

const ids = ['a', 'b', 'c', 'd', 'e'];
const idAt = (index: number) => ids[index];

describe('selecting', () => {
  it('toggles one', () => {
    const one = toggle(noSelection, 'b', 1);
    expect([...one.ids]).toEqual(['b']);
    expect([...toggle(one, 'b', 1).ids]).toEqual([]);
  });
  it('takes a range in either direction from where it began', () => {
    const from = toggle(noSelection, 'c', 2);
    expect([...selectRange(from, 4, idAt).ids].sort()).toEqual(['c', 'd', 'e']);
    expect([...selectRange(from, 0, idAt).ids].sort()).toEqual(['a', 'b', 'c']);
  });
  it('leaves out what is not loaded', () => {
    const from = { ...noSelection, anchor: 3 };
    expect([...selectRange(from, 9, idAt).ids]).toEqual(['d', 'e']);
  });
});

describe('moving', () => {
  it.each([
    ['ArrowRight', 0, 1],
    ['ArrowRight', 9, 9],
    ['ArrowLeft', 0, 0],
    ['ArrowDown', 1, 5],
    ['ArrowDown', 8, 8],
    ['ArrowUp', 5, 1],
    ['ArrowUp', 2, 2],
    ['Home', 7, 0],
    ['End', 0, 9],
    ['PageDown', 0, 8],
  ])('%s from %i leads to %i', (key, from, to) => expect(moveByKey(key, from, 4, 10, 8)).toBe(to));
  it('ignores other keys', () => expect(moveByKey('x', 0, 4, 10, 8)).toBeNull());
});
