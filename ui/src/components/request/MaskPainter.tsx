// Painting over a picture what of it is painted anew.
import { Brush, Contrast, Eraser, Minus, Plus, Trash2, Undo2 } from 'lucide-react';
import {
  useEffect,
  useRef,
  useState,
  type KeyboardEvent,
  type PointerEvent,
  type ReactNode,
} from 'react';

import { pictureUrl } from '@/api/media';
import { keepPicture } from '@/components/take-picture';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Confirm, Dialog } from '@/components/ui/Dialog';
import { Segmented } from '@/components/ui/Segmented';
import { SliderField } from '@/components/ui/Slider';
import { useSize } from '@/lib/hooks';
import { matchesChord } from '@/lib/keys';
import { drawStep, isBlank, readMask, replay, writeMask, type MaskStep, type Point } from './mask';
import type { PictureSize } from './PictureField';

const LARGEST_ZOOM = 8;

interface MaskPainterProps {
  /** The picture, as a reference. */
  image: string;
  /** Its own size, which the mask gets too. */
  size: PictureSize;
  /** The mask so far, as a reference. */
  mask: string | null;
  onMask(mask: string | null): void;
  onClose(): void;
}

export function MaskPainter({ onClose, ...props }: MaskPainterProps) {
  const [isChanged, setChanged] = useState(false);
  const [isAsking, setAsking] = useState(false);
  // A stray Escape or click beside the window is no reason to lose what was painted.
  const leave = () => (isChanged ? setAsking(true) : onClose());
  return (
    <Dialog
      isOpen
      onOpen={(isOpen) => !isOpen && leave()}
      title="Paint a mask"
      description="What you cover is painted anew; the rest of the picture stays."
      className="!top-[3vh] !max-h-[94vh] !max-w-5xl"
    >
      <Painter {...props} onClose={onClose} onChanged={setChanged} />
      <Confirm
        isOpen={isAsking}
        onOpen={setAsking}
        title="Leave without the mask?"
        action="Leave"
        onConfirm={onClose}
      >
        What you painted is lost.
      </Confirm>
    </Dialog>
  );
}

function Painter({
  image,
  size,
  mask,
  onMask,
  onClose,
  onChanged,
}: MaskPainterProps & { onChanged(isChanged: boolean): void }) {
  const longest = Math.max(size.width, size.height);
  const usualBrush = Math.max(1, Math.round(longest / 12));
  const largestBrush = Math.max(2, Math.round(longest / 2));
  const canvas = useRef<HTMLCanvasElement>(null);
  const base = useRef<HTMLCanvasElement | null>(null);
  const stroke = useRef<Extract<MaskStep, { kind: 'stroke' }> | null>(null);
  const [frame, room] = useSize<HTMLDivElement>();
  const [steps, setSteps] = useState<MaskStep[]>([]);
  const [hasBase, setHasBase] = useState(false);
  const [isReading, setReading] = useState(mask !== null);
  const [chosenBrush, setBrush] = useState<number | null>(null);
  const [isErasing, setErasing] = useState(false);
  const [zoom, setZoom] = useState(1);
  const [cursor, setCursor] = useState<Point | null>(null);
  const [isSaving, setSaving] = useState(false);
  const brush = chosenBrush ?? usualBrush;
  const context = () => canvas.current?.getContext('2d') ?? null;

  useEffect(() => {
    if (mask === null) return;
    let isGone = false;
    void readMask(pictureUrl(mask), size.width, size.height).then((read) => {
      if (isGone) return;
      base.current = read;
      setHasBase(read !== null);
      setReading(false);
      const drawn = canvas.current?.getContext('2d');
      if (drawn) replay(drawn, read, []);
    });
    return () => {
      isGone = true;
    };
  }, [mask, size.width, size.height]);

  const add = (step: MaskStep) => {
    onChanged(true);
    const drawn = context();
    if (drawn && step.kind !== 'stroke') drawStep(drawn, step);
    setSteps((now) => [...now, step]);
  };
  const undo = () => {
    const left = steps.slice(0, -1);
    setSteps(left);
    onChanged(left.length > 0);
    const drawn = context();
    if (drawn) replay(drawn, base.current, left);
  };
  const changeBrush = (factor: number) =>
    setBrush(
      Math.min(
        largestBrush,
        Math.max(1, factor > 1 ? Math.ceil(brush * factor) : Math.floor(brush * factor)),
      ),
    );
  const changeZoom = (factor: number) =>
    setZoom((now) => Math.min(LARGEST_ZOOM, Math.max(1, now * factor)));

  const pointOf = (event: PointerEvent<HTMLCanvasElement>): Point => {
    const box = event.currentTarget.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * size.width) / (box.width || 1),
      y: ((event.clientY - box.top) * size.height) / (box.height || 1),
    };
  };
  /** Draws the newest piece only: a whole stroke again for each move would be slow on large pictures. */
  const extend = (point: Point) => {
    const now = stroke.current;
    if (!now) return;
    const last = now.points.at(-1);
    now.points.push(point);
    const drawn = context();
    if (drawn) drawStep(drawn, { ...now, points: last ? [last, point] : [point] });
  };
  const begin = (point: Point) => {
    stroke.current = { kind: 'stroke', isErasing, size: brush, points: [] };
    extend(point);
  };
  const end = () => {
    if (stroke.current) add(stroke.current);
    stroke.current = null;
  };

  /** The brush is moved with the arrow keys and put down with the space bar. */
  const onCanvasKey = (event: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const at = cursor ?? { x: size.width / 2, y: size.height / 2 };
    const move = moves[event.key];
    if (move) {
      event.preventDefault();
      const by = Math.max(1, brush / (event.shiftKey ? 0.5 : 4));
      setCursor({
        x: Math.min(size.width, Math.max(0, at.x + move[0] * by)),
        y: Math.min(size.height, Math.max(0, at.y + move[1] * by)),
      });
    }
    if (event.key === ' ' || event.key === 'Enter') {
      event.preventDefault();
      begin(at);
      end();
      setCursor(at);
    }
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === '[') changeBrush(1 / 1.25);
    else if (event.key === ']') changeBrush(1.25);
    else if (matchesChord(event.nativeEvent, 'mod+z') && steps.length) undo();
    else return;
    event.preventDefault();
  };

  const save = async () => {
    if (isBlank(steps, hasBase)) return onMask(null);
    if (!canvas.current) return;
    setSaving(true);
    try {
      const kept = await keepPicture(await writeMask(canvas.current));
      if (kept) onMask(kept.reference);
    } catch (error) {
      toastError(error);
    } finally {
      setSaving(false);
    }
  };

  const fit = room.width
    ? Math.min(room.width / size.width, Math.max(160, room.height) / size.height)
    : 1;
  const width = size.width * fit * zoom;
  const scale = width / size.width;

  return (
    // Keys of the whole window; every one of them has a button as well.
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div className="flex flex-col gap-3" onKeyDown={onKey}>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
        <Segmented<'brush' | 'eraser'>
          label="Tool"
          value={isErasing ? 'eraser' : 'brush'}
          options={[
            { value: 'brush', label: <Tool icon={<Brush size={14} />} name="Brush" /> },
            { value: 'eraser', label: <Tool icon={<Eraser size={14} />} name="Eraser" /> },
          ]}
          onValue={(tool) => setErasing(tool === 'eraser')}
        />
        <div className="min-w-56 flex-1">
          <SliderField
            label="Brush size"
            value={chosenBrush}
            fallback={usualBrush}
            min={1}
            max={largestBrush}
            onValue={setBrush}
          />
        </div>
        <div className="flex items-center gap-1">
          <IconButton label="Undo" chord="mod+z" disabled={!steps.length} onClick={undo}>
            <Undo2 size={16} aria-hidden="true" />
          </IconButton>
          <IconButton label="Invert the mask" onClick={() => add({ kind: 'invert' })}>
            <Contrast size={16} aria-hidden="true" />
          </IconButton>
          <IconButton label="Clear the mask" onClick={() => add({ kind: 'clear' })}>
            <Trash2 size={16} aria-hidden="true" />
          </IconButton>
          <IconButton label="Zoom out" disabled={zoom <= 1} onClick={() => changeZoom(1 / 1.5)}>
            <Minus size={16} aria-hidden="true" />
          </IconButton>
          <span className="text-ink-3 tnum w-11 text-center text-xs">
            {Math.round(zoom * 100)} %
          </span>
          <IconButton
            label="Zoom in"
            disabled={zoom >= LARGEST_ZOOM}
            onClick={() => changeZoom(1.5)}
          >
            <Plus size={16} aria-hidden="true" />
          </IconButton>
        </div>
      </div>
      <div
        ref={frame}
        className="bg-canvas h-[min(62vh,44rem)] overflow-auto rounded-md"
        aria-busy={isReading}
      >
        <div
          className="relative mx-auto overflow-hidden"
          style={{ width, height: size.height * scale }}
        >
          <img
            src={pictureUrl(image)}
            alt="What lies under the mask"
            draggable={false}
            className="absolute inset-0 size-full select-none"
          />
          <canvas
            ref={canvas}
            width={size.width}
            height={size.height}
            // A drawing surface is operated by pointer and by keys of its own.
            // eslint-disable-next-line jsx-a11y/no-interactive-element-to-noninteractive-role
            role="application"
            aria-label="Mask: move the brush with the arrow keys, put it down with the space bar"
            tabIndex={0}
            className="absolute inset-0 size-full cursor-none touch-none opacity-55"
            onKeyDown={onCanvasKey}
            onPointerDown={(event) => {
              if (event.button !== 0 || isReading) return;
              event.currentTarget.setPointerCapture(event.pointerId);
              begin(pointOf(event));
            }}
            onPointerMove={(event) => {
              const point = pointOf(event);
              setCursor(point);
              extend(point);
            }}
            onPointerUp={end}
            onPointerCancel={end}
            onPointerLeave={() => !stroke.current && setCursor(null)}
          />
          {cursor && (
            <span
              aria-hidden="true"
              className="pointer-events-none absolute -translate-1/2 rounded-full border border-white outline outline-black"
              style={{
                left: cursor.x * scale,
                top: cursor.y * scale,
                width: Math.max(4, brush * scale),
                height: Math.max(4, brush * scale),
              }}
            />
          )}
        </div>
      </div>
      <div className="flex flex-wrap items-center justify-end gap-2">
        <p className="text-ink-3 mr-auto text-xs">
          {size.width} × {size.height} pixels. The keys [ and ] change the brush.
        </p>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          variant="primary"
          isBusy={isSaving}
          disabled={isReading}
          onClick={() => void save()}
        >
          Use this mask
        </Button>
      </div>
    </div>
  );
}

function Tool({ icon, name }: { icon: ReactNode; name: string }) {
  return (
    <>
      <span aria-hidden="true">{icon}</span>
      {name}
    </>
  );
}
