// What this one browser remembers about how the UI looks and listens.
import { useMediaQuery } from './hooks';
import { createStoredStore, useStore } from './store';

export type ThemeChoice = 'system' | 'light' | 'dark';

/** The last theme that was chosen, so that the first frame has it before the server answers. */
export const themeStore = createStoredStore<ThemeChoice>('kinora.theme', (stored) =>
  stored === 'light' || stored === 'dark' ? stored : 'system',
);

/** Whether keys without Ctrl act as shortcuts (WCAG 2.1.4: they can be switched off). */
export const singleKeysStore = createStoredStore<boolean>(
  'kinora.single-keys',
  (stored) => stored !== false,
);

export const gridSizeStore = createStoredStore<number>('kinora.grid', (stored) =>
  typeof stored === 'number' && stored >= 110 && stored <= 360 ? stored : 190,
);

/** Whether clips begin again at their end, and whether they are heard. */
export const loopStore = createStoredStore<boolean>('kinora.loop', (stored) => stored !== false);
export const soundStore = createStoredStore<boolean>('kinora.sound', (stored) => stored !== false);

export type BatchLook = 'sheet' | 'table';

/** How a list that was run is looked at. */
export const batchViewStore = createStoredStore<BatchLook>('kinora.batch', (stored) =>
  stored === 'table' ? 'table' : 'sheet',
);

const dark = '(prefers-color-scheme: dark)';

export function resolveTheme(choice: ThemeChoice): 'light' | 'dark' {
  if (choice !== 'system') return choice;
  return matchMedia(dark).matches ? 'dark' : 'light';
}

/** The theme on screen, also when the desktop changes its own. */
export function useTheme(): 'light' | 'dark' {
  const choice = useStore(themeStore);
  const isDark = useMediaQuery(dark);
  return choice === 'system' ? (isDark ? 'dark' : 'light') : choice;
}

/** Keeps the page's theme as chosen, and as the desktop's while that is the choice. */
export function followTheme(): () => void {
  const apply = () => {
    document.documentElement.dataset.theme = resolveTheme(themeStore.get());
  };
  apply();
  const stop = themeStore.subscribe(apply);
  const list = matchMedia(dark);
  list.addEventListener('change', apply);
  return () => {
    stop();
    list.removeEventListener('change', apply);
  };
}
