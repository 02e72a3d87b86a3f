import { act, fireEvent, render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { createRef } from 'react';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { ClipInfo, FileFormat } from '@/api/types';
import { TooltipProvider } from '@/components/ui/Tooltip';
import { loopStore, singleKeysStore, soundStore } from '@/lib/preferences';
import { Player, type PlayerHandle } from './Player';

const clip: ClipInfo = {
  frames: 80,
  rate: { numerator: 16, denominator: 1 },
  duration_ms: 5000,
  has_sound: true,
  codec: 'h264',
};

function setup(format: FileFormat = 'mp4', change: Partial<ClipInfo> = {}) {
  const handle = createRef<PlayerHandle>();
  render(
    <TooltipProvider>
      {/* As the viewer does: what no control uses goes to the player. */}
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions */}
      <div onKeyDown={(event) => handle.current?.onKey(event)} data-testid="page">
        <Player
          handle={handle}
          src="clip"
          poster="poster"
          label="a fox runs"
          format={format}
          clip={{ ...clip, ...change }}
        />
      </div>
    </TooltipProvider>,
  );
  const press = (key: string) => fireEvent.keyDown(screen.getByTestId('page'), { key });
  return { press };
}

const video = () => screen.getByLabelText<HTMLVideoElement>('a fox runs');
const at = () => screen.getByRole('slider', { name: 'Position' });

describe('the player', () => {
  let isPaused = true;
  beforeEach(() => {
    isPaused = true;
    loopStore.set(true);
    soundStore.set(true);
    singleKeysStore.set(true);
    const media = HTMLMediaElement.prototype;
    vi.spyOn(media, 'paused', 'get').mockImplementation(() => isPaused);
    vi.spyOn(media, 'play').mockImplementation(function play(this: HTMLMediaElement) {
      isPaused = false;
      this.dispatchEvent(new Event('play'));
      return Promise.resolve();
    });
    vi.spyOn(media, 'pause').mockImplementation(function pause(this: HTMLMediaElement) {
      isPaused = true;
      this.dispatchEvent(new Event('pause'));
    });
    // Nothing is decoded here, so nothing is shown by itself.
    vi.stubGlobal('requestAnimationFrame', () => 0);
  });

  it('plays and pauses by button and by key', async () => {
    const { press } = setup();
    await userEvent.click(screen.getByRole('button', { name: 'Play' }));
    expect(screen.getByRole('button', { name: 'Pause' })).toBeVisible();
    press(' ');
    expect(isPaused).toBe(true);
    press('k');
    expect(isPaused).toBe(false);
  });

  it('goes from frame to frame and stops at both ends', async () => {
    const { press } = setup();
    press(',');
    expect(at()).toHaveAttribute('aria-valuetext', 'Frame 1 of 80, 0:00.00');
    press('.');
    press('.');
    expect(at()).toHaveAttribute('aria-valuetext', 'Frame 3 of 80, 0:00.12');
    expect(video().currentTime).toBeCloseTo(2.5 / 16, 6);
    await userEvent.click(screen.getByRole('button', { name: 'One frame back' }));
    expect(at()).toHaveAttribute('aria-valuenow', '1');
    press('End');
    expect(screen.getByRole('button', { name: 'One frame on' })).toBeDisabled();
    press('.');
    expect(at()).toHaveAttribute('aria-valuetext', 'Frame 80 of 80, 0:04.93');
  });

  it('goes slower and faster by key, as far as there are speeds', () => {
    const { press } = setup();
    press('<');
    expect(video().playbackRate).toBe(0.5);
    for (let times = 0; times < 9; times += 1) press('>');
    expect(video().playbackRate).toBe(2);
    expect(screen.getByRole('combobox', { name: 'Speed' })).toHaveTextContent('2×');
  });

  it('scrubs with the arrows of its slider', async () => {
    setup();
    act(() => at().focus());
    await userEvent.keyboard('{ArrowRight}{ArrowRight}{ArrowRight}');
    expect(at()).toHaveAttribute('aria-valuenow', '3');
  });

  it('loops and sounds until it is told not to, and remembers', () => {
    const { press } = setup();
    expect(video().loop).toBe(true);
    expect(video().muted).toBe(false);
    press('l');
    press('m');
    expect(video().loop).toBe(false);
    expect(video().muted).toBe(true);
    expect(loopStore.get()).toBe(false);
    expect(screen.getByRole('button', { name: 'Sound' })).toHaveAttribute('aria-pressed', 'false');
  });

  it('has no sound button for a silent clip, and leaves the page its other keys', () => {
    setup('webm', { has_sound: false });
    expect(screen.queryByRole('button', { name: 'Sound' })).toBeNull();
    const isMine = fireEvent.keyDown(screen.getByTestId('page'), { key: 'u' });
    expect(isMine).toBe(true);
  });

  it('listens to no single key where they are switched off', () => {
    singleKeysStore.set(false);
    const { press } = setup();
    press('.');
    expect(at()).toHaveAttribute('aria-valuenow', '0');
  });

  it('says so when the window cannot decode it', () => {
    setup('mp4_h265', { codec: 'hevc' });
    // The sound track alone was understood.
    fireEvent.loadedMetadata(video());
    expect(screen.getByRole('alert')).toHaveTextContent('no decoder for HEVC');
    expect(screen.getByRole('img', { name: 'a fox runs' })).toHaveAttribute('src', 'poster');
  });

  it('says so when the file is gone or broken', () => {
    setup();
    fireEvent.error(video());
    expect(screen.getByRole('alert')).toBeVisible();
  });

  it('plays a GIF as the picture that it is, and stops it', async () => {
    setup('gif', { has_sound: false });
    expect(screen.getByRole('img', { name: 'a fox runs' })).toHaveAttribute('src', 'clip');
    await userEvent.click(screen.getByRole('button', { name: 'Pause' }));
    expect(screen.getByRole('img', { name: 'a fox runs' })).toHaveAttribute('src', 'poster');
  });

  it('shows the first of PNG frames', () => {
    setup('frames', { has_sound: false });
    expect(screen.getByRole('img', { name: 'a fox runs' })).toHaveAttribute('src', 'poster');
    expect(screen.getByText(/80 PNG frames in one archive/)).toBeVisible();
  });
});
