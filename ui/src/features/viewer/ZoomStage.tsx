// The picture, with wheel, drag, pinch-free zoom and double click.
import { useEffect, useImperativeHandle, useRef, useState, type Ref } from 'react';

import { useSize } from '@/lib/hooks';
import { actualScale, fitted, zoomAt, type View } from './zoom';

export interface ZoomHandle {
  toggle(): void;
}

export function ZoomStage({
  src,
  alt,
  width,
  height,
  handle,
}: {
  src: string;
  alt: string;
  width: number;
  height: number;
  handle: Ref<ZoomHandle>;
}) {
  const [ref, frame] = useSize<HTMLDivElement>();
  const [view, setView] = useState<View>(fitted);
  const drag = useRef<{ x: number; y: number } | null>(null);

  const [shown, setShown] = useState(src);
  if (shown !== src) {
    setShown(src);
    setView(fitted);
  }

  const toggle = () => {
    setView((now) => {
      if (now.scale !== 1) return fitted;
      const actual = actualScale({ width, height }, frame, devicePixelRatio);
      // A small picture is shown larger than it is already; then the closer look is twice that.
      return { ...fitted, scale: actual > 1.05 ? actual : 2 };
    });
  };
  useImperativeHandle(handle, () => ({ toggle }));

  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    // React's wheel listeners are passive and could not keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      const at = {
        x: event.clientX - box.left - box.width / 2,
        y: event.clientY - box.top - box.height / 2,
      };
      setView((now) => zoomAt(now, Math.exp(-event.deltaY * 0.0018), at));
    };
    element.addEventListener('wheel', onWheel, { passive: false });
    return () => element.removeEventListener('wheel', onWheel);
  }, [ref]);

  const isZoomed = view.scale > 1;
  return (
    // Zoom has its own button and key; these are what the pointer does besides.

    <div
      ref={ref}
      onDoubleClick={toggle}
      onPointerDown={(event) => {
        if (!isZoomed || event.button !== 0) return;
        drag.current = { x: event.clientX - view.x, y: event.clientY - view.y };
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        const from = drag.current;
        if (from)
          setView((now) => ({ ...now, x: event.clientX - from.x, y: event.clientY - from.y }));
      }}
      onPointerUp={() => (drag.current = null)}
      onPointerCancel={() => (drag.current = null)}
      className={`relative size-full touch-none overflow-hidden select-none ${isZoomed ? 'cursor-grab active:cursor-grabbing' : 'cursor-zoom-in'}`}
    >
      <img
        src={src}
        alt={alt}
        draggable={false}
        className="size-full object-contain"
        style={{
          transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})`,
          imageRendering: view.scale > 6 ? 'pixelated' : undefined,
        }}
      />
    </div>
  );
}
