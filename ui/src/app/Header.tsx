// The line at the top: search for anything, what runs at the moment, theme and help.
import { CircleHelp, Moon, Search, Sun } from 'lucide-react';

import { useCommand } from '@/api/client';
import { Mark } from '@/components/icons';
import { IconButton } from '@/components/ui/Button';
import { Keys } from '@/components/ui/Keys';
import { themeStore, useTheme } from '@/lib/preferences';
import { ActivityTray } from './ActivityTray';

export function Header({ onPalette, onHelp }: { onPalette(): void; onHelp(): void }) {
  const update = useCommand('settings_update');
  const isDark = useTheme() === 'dark';
  const toggleTheme = () => {
    const theme = isDark ? 'light' : 'dark';
    themeStore.set(theme);
    update.mutate({ theme });
  };
  return (
    <header className="bg-ground border-line flex h-12 shrink-0 items-center gap-1.5 border-b px-3 md:px-4">
      <span className="md:hidden">
        <Mark size={26} />
      </span>
      <button
        type="button"
        onClick={onPalette}
        className="border-line text-ink-3 hover:bg-raised hover:text-ink-2 ml-1 flex h-8 min-w-0 items-center gap-2 rounded-md border px-2.5 text-sm md:ml-0 md:w-72"
      >
        <Search size={15} aria-hidden="true" />
        <span className="truncate">
          Search<span className="max-sm:sr-only"> or run a command</span>
        </span>
        <span className="ml-auto hidden md:block">
          <Keys chord="mod+k" />
        </span>
      </button>
      <div className="flex-1" />
      <ActivityTray />
      <IconButton label={isDark ? 'Light theme' : 'Dark theme'} onClick={toggleTheme}>
        {isDark ? <Sun size={18} aria-hidden="true" /> : <Moon size={18} aria-hidden="true" />}
      </IconButton>
      <IconButton
        label="Keyboard and help"
        chord="?"
        onClick={onHelp}
        className="hidden sm:inline-grid"
      >
        <CircleHelp size={18} aria-hidden="true" />
      </IconButton>
    </header>
  );
}
