// Listens for the chords of the app's actions, and for sequences like `g c`.
import { useEffect } from 'react';

import { isTyping, matchesChord } from '@/lib/keys';
import { singleKeysStore } from '@/lib/preferences';
import type { AppAction } from './actions';

/** How long the second key of a sequence may take. */
const SEQUENCE_MS = 1200;

export function useShortcuts(actions: AppAction[]): void {
  useEffect(() => {
    let prefix = '';
    let timer: ReturnType<typeof setTimeout> | undefined;
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented) return;
      const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
      const isAllowed = !isPlain || (singleKeysStore.get() && !isTyping(event.target));
      if (!isAllowed) return;
      const sequence = prefix ? `${prefix} ${event.key.toLowerCase()}` : '';
      prefix = '';
      clearTimeout(timer);
      const action = actions.find(({ chord }) =>
        chord?.includes(' ') ? chord === sequence : chord && matchesChord(event, chord),
      );
      if (action) {
        event.preventDefault();
        action.run();
        return;
      }
      if (
        isPlain &&
        actions.some(({ chord }) => chord?.startsWith(`${event.key.toLowerCase()} `))
      ) {
        prefix = event.key.toLowerCase();
        timer = setTimeout(() => (prefix = ''), SEQUENCE_MS);
      }
    };
    addEventListener('keydown', onKey);
    return () => {
      clearTimeout(timer);
      removeEventListener('keydown', onKey);
    };
  }, [actions]);
}
