// Everything that can be done from anywhere, declared once: the palette, the keys and the help page
// read this list.
import type { NavigateFunction } from 'react-router';

import { host } from '@/api/host';
import { call } from '@/api/client';
import { toastError } from '@/components/toast';
import { emptyDraft, draftStore } from '@/lib/draft';
import { resolveTheme, themeStore } from '@/lib/preferences';
import { places } from './places';

export interface AppAction {
  id: string;
  label: string;
  group: 'Go to' | 'Do' | 'App';
  /** `mod+k`, or a sequence of two keys: `g c`. */
  chord?: string;
  /** More words that find it. */
  words?: string;
  run(): void;
}

export interface ActionContext {
  navigate: NavigateFunction;
  openPalette(): void;
  openHelp(): void;
}

export function appActions({ navigate, openPalette, openHelp }: ActionContext): AppAction[] {
  const command = (name: 'queue_pause' | 'queue_resume') => () =>
    void call(name, {}).catch(toastError);
  return [
    ...places.map(({ path, label, key }): AppAction => ({
      id: `go${path}`,
      label,
      group: 'Go to',
      chord: `g ${key}`,
      run: () => void navigate(path),
    })),
    {
      id: 'trash',
      label: 'Trash',
      group: 'Go to',
      words: 'deleted restore',
      run: () => void navigate('/gallery?trash=1'),
    },
    {
      id: 'new',
      label: 'New picture with an empty form',
      group: 'Do',
      words: 'create reset clear',
      run: () => {
        draftStore.set((now) => ({ ...emptyDraft, model: now.model, session: now.session }));
        void navigate('/create');
      },
    },
    {
      id: 'pause',
      label: 'Pause the queue',
      group: 'Do',
      words: 'stop',
      run: command('queue_pause'),
    },
    {
      id: 'resume',
      label: 'Resume the queue',
      group: 'Do',
      words: 'start continue',
      run: command('queue_resume'),
    },
    {
      id: 'theme',
      label: 'Switch between light and dark',
      group: 'App',
      words: 'theme mode',
      run: () => {
        const theme = resolveTheme(themeStore.get()) === 'dark' ? 'light' : 'dark';
        themeStore.set(theme);
        void call('settings_update', { theme }).catch(toastError);
      },
    },
    {
      id: 'docs',
      label: 'Open the API documentation',
      group: 'App',
      words: 'openapi rest help',
      run: () => void host.openExternal(host.pageUrl('/docs')),
    },
    {
      id: 'palette',
      label: 'Search or run a command',
      group: 'App',
      chord: 'mod+k',
      run: openPalette,
    },
    { id: 'help', label: 'Keyboard and help', group: 'App', chord: '?', run: openHelp },
  ];
}
