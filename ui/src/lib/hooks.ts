// Small hooks without knowledge of Kinora.
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from 'react';

import { matchesChord } from './keys';

/** The value as it was when it last stood still for `ms`. */
export function useDebounced<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

/** The size of an element, kept up to date. */
export function useSize<T extends HTMLElement>(): [
  RefObject<T | null>,
  { width: number; height: number },
] {
  const ref = useRef<T>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = () => {
      const { clientWidth: width, clientHeight: height } = element;
      setSize((now) => (now.width === width && now.height === height ? now : { width, height }));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

/** Re-renders every `ms` while `isActive`, and answers the time. */
export function useNow(ms: number, isActive = true): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!isActive) return;
    const timer = setInterval(() => setNow(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms, isActive]);
  return now;
}

export function useMediaQuery(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const update = () => setMatches(list.matches);
    update();
    list.addEventListener('change', update);
    return () => list.removeEventListener('change', update);
  }, [query]);
  return matches;
}

/** A function that always calls the latest `callback` but never changes itself. */
export function useLatest<A extends unknown[], R>(callback: (...args: A) => R): (...args: A) => R {
  const ref = useRef(callback);
  useLayoutEffect(() => {
    ref.current = callback;
  });
  return useCallback((...args: A) => ref.current(...args), []);
}

/** Does what belongs to a chord wherever on the page it is pressed. */
export function useChords(actions: Record<string, () => void>): void {
  const act = useLatest((event: KeyboardEvent) => {
    const found = Object.entries(actions).find(([chord]) => matchesChord(event, chord));
    if (!found) return;
    event.preventDefault();
    found[1]();
  });
  useEffect(() => {
    addEventListener('keydown', act);
    return () => removeEventListener('keydown', act);
  }, [act]);
}

/**
 * The value, or for `ms` after it became empty (its key is '') the last one before: between two jobs
 * there is a moment in which nothing runs, and a page that shows it flickers.
 */
export function useLinger<T>(value: T, key: string, ms: number): T {
  const [last, setLast] = useState({ value, key });
  if (key && last.key !== key) setLast({ value, key });
  useEffect(() => {
    if (key) return;
    const timer = setTimeout(() => setLast((now) => ({ ...now, key: '' })), ms);
    return () => clearTimeout(timer);
  }, [key, ms]);
  return !key && last.key ? last.value : value;
}
