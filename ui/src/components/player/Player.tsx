// A clip with controls of Kinora's own: to the frame, looped, at other speeds, with the keyboard.
// What a browser shows as a picture (GIF, animated WebP) can be played and stopped.
import {
  ChevronFirst,
  ChevronLeft,
  ChevronRight,
  Maximize,
  Pause,
  Play,
  Repeat,
  Volume2,
  VolumeX,
} from 'lucide-react';
import { Slider } from 'radix-ui';
import {
  useCallback,
  useEffect,
  useImperativeHandle,
  useRef,
  useState,
  type KeyboardEvent,
  type ReactNode,
  type Ref,
} from 'react';

import type { ClipInfo, FileFormat } from '@/api/types';
import { IconButton } from '@/components/ui/Button';
import { Select, type Option } from '@/components/ui/Select';
import { formatCount } from '@/lib/format';
import { useMediaQuery } from '@/lib/hooks';
import { loopStore, singleKeysStore, soundStore } from '@/lib/preferences';
import { useStore } from '@/lib/store';
import { kindOf } from './kind';
import { formatTime, perSecond, seekTime } from './time';
import { useShownFrame } from './use-shown-frame';

const SPEEDS = ['0.25', '0.5', '1', '1.5', '2'] as const;
type Speed = (typeof SPEEDS)[number];

export interface PlayerHandle {
  /** Whether the key was the player's. */
  onKey(event: KeyboardEvent): boolean;
}

interface PlayerProps {
  src: string;
  /** The first frame, shown until there is more. */
  poster: string;
  label: string;
  format: FileFormat;
  clip: ClipInfo;
  handle?: Ref<PlayerHandle>;
}

export function Player(props: PlayerProps) {
  switch (kindOf(props.format)) {
    case 'video':
      return <VideoPlayer {...props} />;
    case 'animation':
      return <AnimationPlayer {...props} />;
    default:
      return (
        <Frame
          stage={<Still src={props.poster} label={props.label} />}
          controls={
            <p className="text-ink-2 px-1 py-1.5 text-sm">
              {formatCount(props.clip.frames)} PNG frames in one archive. Download it to use them.
            </p>
          }
        />
      );
  }
}

function Still({ src, label }: { src: string; label: string }) {
  return <img src={src} alt={label} draggable={false} className="size-full object-contain" />;
}

function Frame({
  stage,
  controls,
  box,
  onKey,
}: {
  stage: ReactNode;
  controls: ReactNode;
  box?: Ref<HTMLDivElement>;
  onKey?(event: KeyboardEvent): void;
}) {
  return (
    // Keys of the controls within; each of them has its button.
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div ref={box} onKeyDown={onKey} className="bg-canvas flex size-full min-h-0 flex-col gap-2">
      <div className="relative min-h-0 flex-1">{stage}</div>
      <div
        role="group"
        aria-label="Player"
        className="bg-panel border-line mx-auto w-full max-w-3xl shrink-0 rounded-lg border px-2 py-1.5"
      >
        {controls}
      </div>
    </div>
  );
}

/** Whether the key is meant for the player, and not for the control that has the focus. */
function isFree(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey || !singleKeysStore.get()) return false;
  const target = event.target as HTMLElement;
  const isControl = target.closest('button, input, textarea, [role="slider"], [role="combobox"]');
  return event.key !== ' ' || !isControl;
}

function VideoPlayer({ src, poster, label, clip, handle }: PlayerProps) {
  const video = useRef<HTMLVideoElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const isCalm = useMediaQuery('(prefers-reduced-motion: reduce)');
  const [isPlaying, setPlaying] = useState(false);
  const [frame, setFrame] = useState(0);
  const [problem, setProblem] = useState(false);
  const [speed, setSpeed] = useState<Speed>('1');
  const isLooped = useStore(loopStore);
  const hasSound = useStore(soundStore);
  const { frames, rate } = clip;
  const last = Math.max(0, frames - 1);
  // The frame that is on its way: those that still come up before it are not news.
  const sought = useRef<number | null>(null);

  const isHeld = useCallback(() => sought.current !== null, []);
  useShownFrame(video, { rate, frames, isHeld }, setFrame);

  useEffect(() => {
    if (video.current) video.current.playbackRate = Number(speed);
  }, [speed]);

  const play = useCallback(() => {
    // A browser may refuse to begin with sound; the button is there.
    void video.current?.play().catch(() => {});
  }, []);
  const toggle = () => {
    const element = video.current;
    if (!element) return;
    if (element.paused) play();
    else element.pause();
  };
  const show = useCallback(
    (wanted: number) => {
      const element = video.current;
      if (!element) return;
      element.pause();
      const next = Math.min(last, Math.max(0, wanted));
      setFrame(next);
      sought.current = next;
      element.currentTime = seekTime(next, rate);
    },
    [last, rate],
  );
  const fill = () => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void box.current?.requestFullscreen?.().catch(() => {});
  };

  const onKey = (event: KeyboardEvent): boolean => {
    if (event.defaultPrevented || !isFree(event)) return false;
    switch (event.key) {
      case ' ':
      case 'k':
        toggle();
        break;
      case ',':
        show(frame - 1);
        break;
      case '.':
        show(frame + 1);
        break;
      case 'Home':
        show(0);
        break;
      case 'End':
        show(last);
        break;
      case '<':
      case '>': {
        const at = SPEEDS.indexOf(speed) + (event.key === '>' ? 1 : -1);
        setSpeed(SPEEDS[at] ?? speed);
        break;
      }
      case 'l':
        loopStore.set((now) => !now);
        break;
      case 'm':
        if (!clip.has_sound) return false;
        soundStore.set((now) => !now);
        break;
      case 'f':
        fill();
        break;
      default:
        return false;
    }
    event.preventDefault();
    return true;
  };
  useImperativeHandle(handle, () => ({ onKey }));

  if (problem) {
    return (
      <Frame
        stage={<Still src={poster} label={label} />}
        controls={
          <p role="alert" className="px-1 py-1.5 text-sm">
            This window has no decoder for {clip.codec.toUpperCase()}. Download the clip, or make it
            again as MP4 (H.264) or WebM.
          </p>
        }
      />
    );
  }
  const seconds = frame / perSecond(rate);
  return (
    <Frame
      box={box}
      onKey={onKey}
      stage={
        // The prompt is the clip's description; there is no speech to caption.
        // eslint-disable-next-line jsx-a11y/media-has-caption
        <video
          ref={video}
          src={src}
          poster={poster}
          aria-label={label}
          autoPlay={!isCalm}
          loop={isLooped}
          muted={!hasSound || !clip.has_sound}
          playsInline
          preload="auto"
          onSeeked={(event) => {
            // A faster hand has asked for another one meanwhile.
            if (!event.currentTarget.seeking) sought.current = null;
          }}
          onPlay={() => {
            sought.current = null;
            setPlaying(true);
          }}
          onPause={() => setPlaying(false)}
          onError={() => setProblem(true)}
          onLoadedMetadata={(event) => {
            // Chromium plays the sound of what it cannot decode, and no pictures.
            if (event.currentTarget.videoWidth === 0) setProblem(true);
          }}
          onClick={toggle}
          className="absolute inset-0 size-full object-contain"
        />
      }
      controls={
        <>
          <Slider.Root
            className="relative mx-2 flex h-5 touch-none items-center select-none"
            min={0}
            max={Math.max(1, last)}
            step={1}
            value={[frame]}
            onValueChange={([next]) => show(next ?? 0)}
          >
            <Slider.Track className="bg-hover relative h-1 grow rounded-full">
              <Slider.Range className="bg-lamp absolute h-full rounded-full" />
            </Slider.Track>
            <Slider.Thumb
              aria-label="Position"
              aria-valuetext={`Frame ${frame + 1} of ${frames}, ${formatTime(seconds)}`}
              className="border-lamp bg-panel block size-4 rounded-full border-2 shadow-sm"
            />
          </Slider.Root>
          <div className="flex flex-wrap items-center gap-1 max-sm:gap-0">
            <IconButton
              size="sm"
              label="To the first frame"
              chord="home"
              className="max-sm:hidden"
              onClick={() => show(0)}
            >
              <ChevronFirst size={18} aria-hidden="true" />
            </IconButton>
            <IconButton
              size="sm"
              label="One frame back"
              chord=","
              disabled={frame === 0}
              onClick={() => show(frame - 1)}
            >
              <ChevronLeft size={18} aria-hidden="true" />
            </IconButton>
            <IconButton label={isPlaying ? 'Pause' : 'Play'} chord=" " onClick={toggle}>
              {isPlaying ? (
                <Pause size={19} aria-hidden="true" />
              ) : (
                <Play size={19} aria-hidden="true" />
              )}
            </IconButton>
            <IconButton
              size="sm"
              label="One frame on"
              chord="."
              disabled={frame >= last}
              onClick={() => show(frame + 1)}
            >
              <ChevronRight size={18} aria-hidden="true" />
            </IconButton>
            <span className="text-ink-2 tnum px-1.5 text-sm whitespace-nowrap">
              {formatTime(seconds)}{' '}
              <span className="text-ink-3 max-sm:hidden">
                / {formatTime(frames / perSecond(rate))}
              </span>
            </span>
            <span className="text-ink-3 tnum text-sm whitespace-nowrap max-sm:hidden">
              frame {formatCount(frame + 1)} of {formatCount(frames)}
            </span>
            <div className="flex-1" />
            <Select<Speed>
              aria-label="Speed"
              className="w-[4.75rem] !h-8 !text-sm max-sm:w-16 max-sm:!px-2"
              value={speed}
              options={SPEEDS.map((value): Option<Speed> => ({ value, label: `${value}×` }))}
              onValue={setSpeed}
            />
            <IconButton
              size="sm"
              label="Loop"
              chord="l"
              isPressed={isLooped}
              onClick={() => loopStore.set((now) => !now)}
            >
              <Repeat size={16} aria-hidden="true" />
            </IconButton>
            {clip.has_sound && (
              <IconButton
                size="sm"
                label="Sound"
                chord="m"
                isPressed={hasSound}
                onClick={() => soundStore.set((now) => !now)}
              >
                {hasSound ? (
                  <Volume2 size={17} aria-hidden="true" />
                ) : (
                  <VolumeX size={17} aria-hidden="true" />
                )}
              </IconButton>
            )}
            <IconButton size="sm" label="Full screen" chord="f" onClick={fill}>
              <Maximize size={16} aria-hidden="true" />
            </IconButton>
          </div>
        </>
      }
    />
  );
}

/** Browsers play these as pictures: on or off is all that there is. */
function AnimationPlayer({ src, poster, label, clip, handle }: PlayerProps) {
  const isCalm = useMediaQuery('(prefers-reduced-motion: reduce)');
  const [isPlaying, setPlaying] = useState(!isCalm);
  const onKey = (event: KeyboardEvent): boolean => {
    if (event.defaultPrevented || !isFree(event) || (event.key !== ' ' && event.key !== 'k'))
      return false;
    setPlaying(!isPlaying);
    event.preventDefault();
    return true;
  };
  useImperativeHandle(handle, () => ({ onKey }));
  return (
    <Frame
      onKey={onKey}
      stage={<Still src={isPlaying ? src : poster} label={label} />}
      controls={
        <div className="flex items-center gap-2">
          <IconButton
            label={isPlaying ? 'Pause' : 'Play'}
            chord=" "
            onClick={() => setPlaying(!isPlaying)}
          >
            {isPlaying ? (
              <Pause size={19} aria-hidden="true" />
            ) : (
              <Play size={19} aria-hidden="true" />
            )}
          </IconButton>
          <span className="text-ink-2 tnum text-sm">
            {formatTime(clip.duration_ms / 1000)}, {formatCount(clip.frames)} frames
          </span>
        </div>
      }
    />
  );
}
