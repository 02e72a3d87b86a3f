import { describe, expect, it } from 'vitest';

import {
  formatBytes,
  formatBytesOf,
  formatDuration,
  formatWhen,
  plural,
  ratioLabel,
  titleCase,
} from './format';

describe('numbers as people read them', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [830_000, '830 KB'],
    [14_800_000, '14.8 MB'],
    [2_140_000_000, '2.1 GB'],
    [128e9, '128 GB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it('writes two amounts in one unit', () => {
    expect(formatBytesOf(2.1e9, 22e9)).toBe('2.1 of 22 GB');
    expect(formatBytesOf(62e6, 71e9)).toBe('0.1 of 71 GB');
    expect(formatBytesOf(5e6, 80e6)).toBe('5 of 80 MB');
  });

  it.each([
    [0.84, '0.8 s'],
    [4, '4 s'],
    [9.96, '10 s'],
    [59.6, '1 min'],
    [65, '1 min 05 s'],
    [7800, '2 h 10 min'],
    [273_600, '3 d 4 h'],
    [Number.NaN, '–'],
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  it('counts', () => {
    expect(plural(1, 'picture')).toBe('1 picture');
    expect(plural(100_000, 'picture')).toBe('100,000 pictures');
  });

  it('says when, as short as it can be told', () => {
    const now = new Date('2026-03-14T15:00:00').getTime();
    expect(formatWhen(now - 20_000, now)).toBe('just now');
    expect(formatWhen(now - 300_000, now)).toBe('5 min ago');
    expect(formatWhen(new Date('2025-03-14T15:00:00').getTime(), now)).toContain('2025');
  });

  it('names ratios, and nothing that is none', () => {
    expect(ratioLabel(1024, 576)).toBe('16:9');
    expect(ratioLabel(1344, 768)).toBe('16:9'); // 1.75, as close as multiples of 64 come
    expect(ratioLabel(1000, 830)).toBe('');
    expect(ratioLabel(1, 1)).toBe('1:1');
  });

  it('makes headings of codes', () => {
    expect(titleCase('out_of_memory')).toBe('Out of memory');
  });
});
