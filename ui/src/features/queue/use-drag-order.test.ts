import { describe, expect, it } from 'vitest';

import { dropIndex, isMove } from './use-drag-order';

describe('dropping a row', () => {
  it('lands between the rows that are nearest', () => {
    expect(dropIndex(0, 60, 5)).toBe(0);
    expect(dropIndex(29, 60, 5)).toBe(0);
    expect(dropIndex(31, 60, 5)).toBe(1);
    expect(dropIndex(9999, 60, 5)).toBe(5);
    expect(dropIndex(-40, 60, 5)).toBe(0);
  });
  it('onto its own place is no move', () => {
    expect(isMove(2, 2)).toBe(false);
    expect(isMove(2, 3)).toBe(false);
    expect(isMove(2, 4)).toBe(true);
    expect(isMove(2, 1)).toBe(true);
  });
});
