import { describe, expect, it } from 'vitest';

import { formatLength, formatTime, frameAt, seekTime, spellLength } from './time';

const film = { numerator: 24000, denominator: 1001 };

describe('frames and times', () => {
  it('finds every frame again by the time that it is sought at', () => {
    for (const rate of [{ numerator: 16, denominator: 1 }, film]) {
      for (let frame = 0; frame < 240; frame += 1) {
        expect(frameAt(seekTime(frame, rate), rate, 240)).toBe(frame);
      }
    }
  });

  it('knows a frame whose time the container rounded down', () => {
    const rate = { numerator: 24, denominator: 1 };
    for (let frame = 0; frame < 240; frame += 1) {
      expect(frameAt(Math.floor((frame * 1000) / 24) / 1000, rate, 240)).toBe(frame);
    }
  });

  it('stays inside the clip', () => {
    expect(frameAt(-1, film, 10)).toBe(0);
    expect(frameAt(99, film, 10)).toBe(9);
    expect(frameAt(0, film, 0)).toBe(0);
  });
});

describe('lengths', () => {
  it('are written as on a clock', () => {
    expect(formatLength(5.06)).toBe('0:05');
    expect(formatLength(3723)).toBe('1:02:03');
    expect(formatTime(5.0625)).toBe('0:05.06');
    expect(formatTime(0)).toBe('0:00.00');
    expect(formatTime(59.999)).toBe('0:59.99');
  });

  it('are spelled out for those who listen', () => {
    expect(spellLength(0.4)).toBe('1 second');
    expect(spellLength(5.06)).toBe('5 seconds');
    expect(spellLength(62)).toBe('1 minute 2 seconds');
    expect(spellLength(120)).toBe('2 minutes');
  });
});
