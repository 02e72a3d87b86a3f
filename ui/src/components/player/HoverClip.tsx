// A clip over its thumbnail while the pointer rests on it: silent, looped, fetched only then.
import { useEffect, useState } from 'react';

import type { FileFormat } from '@/api/types';
import { useMediaQuery } from '@/lib/hooks';
import { kindOf } from './kind';

/** How long the pointer rests before a clip is fetched, in ms: crossing a grid starts none. */
const REST = 180;

export function HoverClip({
  src,
  format,
  isOver,
}: {
  src: string;
  format: FileFormat;
  isOver: boolean;
}) {
  const isCalm = useMediaQuery('(prefers-reduced-motion: reduce)');
  const [isRested, setRested] = useState(false);
  useEffect(() => {
    if (!isOver || isCalm) return;
    const timer = setTimeout(() => setRested(true), REST);
    return () => {
      clearTimeout(timer);
      setRested(false);
    };
  }, [isOver, isCalm]);
  if (!isRested) return null;
  const look = 'pointer-events-none absolute inset-0 size-full object-contain';
  switch (kindOf(format)) {
    case 'video':
      return (
        <video src={src} className={look} muted autoPlay loop playsInline aria-hidden="true" />
      );
    case 'animation':
      return <img src={src} alt="" className={look} />;
    default:
      return null;
  }
}
