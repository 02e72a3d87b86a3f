// Which frame of a clip is on screen, as exactly as the browser tells.
import { useEffect, type RefObject } from 'react';

import { frameAt, perSecond, type Rate } from './time';

/** How long a picture that the browser told of counts at least, in milliseconds. */
const TOLD_MS = 250;

/**
 * Tells the frame whenever another one may be on screen. A browser tells of each picture that it
 * shows, with its time; WebKitGTK has the function for it and, without a GPU, never calls it. So where
 * nothing was told for longer than frames last, the clip's own clock is asked instead.
 */
export function useShownFrame(
  video: RefObject<HTMLVideoElement | null>,
  { rate, frames, isHeld }: { rate: Rate; frames: number; isHeld(): boolean },
  onFrame: (frame: number) => void,
): void {
  useEffect(() => {
    const element = video.current;
    if (!element) return;
    let told = -Infinity;
    const show = (seconds: number) => {
      if (!isHeld()) onFrame(frameAt(seconds, rate, frames));
    };

    let picture: number | undefined;
    if ('requestVideoFrameCallback' in element) {
      const onPicture = (_now: number, { mediaTime }: { mediaTime: number }) => {
        told = performance.now();
        show(mediaTime);
        picture = element.requestVideoFrameCallback(onPicture);
      };
      picture = element.requestVideoFrameCallback(onPicture);
    }

    const media: HTMLMediaElement = element;
    let request = requestAnimationFrame(function ask() {
      const lasts = 2000 / (perSecond(rate) * (media.playbackRate || 1));
      // A clip that stands still shows what it was told to show last.
      const isTold = media.paused && told > 0;
      if (!isTold && performance.now() - told > Math.max(TOLD_MS, lasts)) show(media.currentTime);
      request = requestAnimationFrame(ask);
    });
    return () => {
      cancelAnimationFrame(request);
      if (picture !== undefined) element.cancelVideoFrameCallback(picture);
    };
  }, [video, rate, frames, isHeld, onFrame]);
}
