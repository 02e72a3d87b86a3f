// Dragging a row of a virtual list to another place, by mouse, pen or finger.
import { useRef, useState, type PointerEvent as ReactPointerEvent, type RefObject } from 'react';

interface Drag {
  id: string;
  from: number;
  /** The row before which it would land; `total` is the end. */
  to: number;
}

/** How close to an edge of the list the pointer scrolls it, and how fast. */
const EDGE = 48;
const SPEED = 12;

/** The row before which something lands that is dropped `y` pixels below the list's top. */
export function dropIndex(y: number, rowHeight: number, total: number): number {
  return Math.min(total, Math.max(0, Math.round(y / rowHeight)));
}

/** Whether dropping there changes anything. */
export function isMove(from: number, to: number): boolean {
  return to !== from && to !== from + 1;
}

export function useDragOrder({
  scroller,
  rowHeight,
  total,
  onDrop,
}: {
  scroller: RefObject<HTMLElement | null>;
  rowHeight: number;
  total: number;
  onDrop(id: string, from: number, to: number): void;
}) {
  const [drag, setDrag] = useState<Drag | null>(null);
  const pointer = useRef(0);

  const start = (event: ReactPointerEvent, id: string, from: number) => {
    if (event.button !== 0 || !scroller.current) return;
    event.preventDefault();
    const list = scroller.current;
    pointer.current = event.clientY;
    let now: Drag = { id, from, to: from };
    let frame = 0;
    setDrag(now);

    const update = () => {
      const { top, bottom } = list.getBoundingClientRect();
      if (pointer.current < top + EDGE) list.scrollTop -= SPEED;
      else if (pointer.current > bottom - EDGE) list.scrollTop += SPEED;
      const to = dropIndex(pointer.current - top + list.scrollTop, rowHeight, total);
      if (to !== now.to) {
        now = { ...now, to };
        setDrag(now);
      }
      frame = requestAnimationFrame(update);
    };
    const move = (next: PointerEvent) => {
      pointer.current = next.clientY;
    };
    const end = (isDropped: boolean) => {
      cancelAnimationFrame(frame);
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', drop);
      removeEventListener('pointercancel', cancel);
      removeEventListener('keydown', escape, true);
      setDrag(null);
      if (isDropped && isMove(now.from, now.to)) onDrop(now.id, now.from, now.to);
    };
    const drop = () => end(true);
    const cancel = () => end(false);
    const escape = (next: KeyboardEvent) => {
      if (next.key !== 'Escape') return;
      next.preventDefault();
      cancel();
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', drop);
    addEventListener('pointercancel', cancel);
    addEventListener('keydown', escape, true);
    frame = requestAnimationFrame(update);
  };

  return { drag, start };
}
