import { act, cleanup, render } from '@testing-library/react';
import { useCallback, useRef } from 'react';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { useShownFrame } from './use-shown-frame';

const rate = { numerator: 10, denominator: 1 };
const never = () => false;
let shown: number[] = [];
let ticks: FrameRequestCallback[] = [];
let pictures: ((now: number, picture: { mediaTime: number }) => void)[] = [];

function Clip() {
  const video = useRef<HTMLVideoElement>(null);
  const onFrame = useCallback((frame: number) => void shown.push(frame), []);
  useShownFrame(video, { rate, frames: 40, isHeld: never }, onFrame);
  return <video ref={video} muted />;
}

/** Lets the screen draw once more, `ms` later. */
function draw(ms: number): void {
  act(() => {
    vi.advanceTimersByTime(ms);
    ticks.splice(0).forEach((tick) => tick(performance.now()));
  });
}

beforeEach(() => {
  [shown, ticks, pictures] = [[], [], []];
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] });
  vi.stubGlobal('requestAnimationFrame', (tick: FrameRequestCallback) => ticks.push(tick));
  vi.stubGlobal('cancelAnimationFrame', () => undefined);
  vi.spyOn(HTMLMediaElement.prototype, 'paused', 'get').mockReturnValue(false);
  Object.assign(HTMLVideoElement.prototype, {
    requestVideoFrameCallback: (told: (typeof pictures)[number]) => pictures.push(told),
    cancelVideoFrameCallback: () => undefined,
  });
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  Reflect.deleteProperty(HTMLVideoElement.prototype, 'requestVideoFrameCallback');
  Reflect.deleteProperty(HTMLVideoElement.prototype, 'cancelVideoFrameCallback');
});

it('a browser that tells of its pictures is believed, and not its clock', () => {
  const { container } = render(<Clip />);
  container.querySelector('video')!.currentTime = 3;
  act(() => pictures.splice(0)[0]!(0, { mediaTime: 1.2 }));
  draw(16);
  draw(150);
  expect(shown).toEqual([12]);
});

it('where it tells of none, the clock of the clip is asked, also after a loop', () => {
  const { container } = render(<Clip />);
  const video = container.querySelector('video')!;
  for (const seconds of [0.5, 3.9, 0.1]) {
    video.currentTime = seconds;
    draw(300);
  }
  expect(shown).toEqual([5, 39, 1]);
});

it('a browser that stops telling is not waited for', () => {
  const { container } = render(<Clip />);
  act(() => pictures.splice(0)[0]!(0, { mediaTime: 1.2 }));
  container.querySelector('video')!.currentTime = 2.5;
  draw(400);
  expect(shown).toEqual([12, 25]);
});
