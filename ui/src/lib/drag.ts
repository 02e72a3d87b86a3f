// Whether files hang over the window at the moment, for fields that take them.
import { createStore } from './store';

export const fileHoverStore = createStore(false);

/** The attribute by which a field says that it takes dropped pictures; its value names the member. */
export const DROP_ATTRIBUTE = 'data-takes-picture';

/** The name of the place where pictures that are dropped begin to move. */
export const ANIMATE_TARGET = 'animate';

/** The member whose field lies there, if one does. */
export function dropTargetAt({ x, y }: { x: number; y: number }): string | null {
  const element = document.elementFromPoint?.(x, y)?.closest(`[${DROP_ATTRIBUTE}]`);
  return element?.getAttribute(DROP_ATTRIBUTE) ?? null;
}
