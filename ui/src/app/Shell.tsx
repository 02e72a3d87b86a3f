// What surrounds every page, and what lies over it.
import { lazy, Suspense, useEffect, useMemo, useState } from 'react';
import { Outlet, useLocation, useNavigate } from 'react-router';
import { Toaster } from 'sonner';

import { connectionStore } from '@/api/connection';
import { host } from '@/api/host';
import { useSettings } from '@/api/queries';
import { themeStore, useTheme } from '@/lib/preferences';
import { useOverlay } from '@/lib/overlay';
import { useStore } from '@/lib/store';
import { appActions } from './actions';
import { ConnectionBanner, Pairing } from './Connection';
import { FileDrops } from './FileDrops';
import { Header } from './Header';
import { Help } from './Help';
import { BottomBar, Rail } from './Navigation';
import { Palette } from './Palette';
import { places } from './places';
import { useShortcuts } from './use-shortcuts';

const Viewer = lazy(() => import('@/features/viewer/Viewer'));
const JobDetail = lazy(() => import('@/features/job/JobDetail'));

/** The theme as the settings say, once they are known. */
function useThemeFromSettings(): void {
  const { data } = useSettings();
  const theme = data?.theme;
  useEffect(() => {
    if (theme) themeStore.set(theme);
  }, [theme]);
}

export function Shell() {
  const navigate = useNavigate();
  const { pathname } = useLocation();
  const [isPaletteOpen, setPaletteOpen] = useState(false);
  const [isHelpOpen, setHelpOpen] = useState(false);
  const overlay = useOverlay();
  const theme = useTheme();
  const status = useStore(connectionStore);
  const actions = useMemo(
    () =>
      appActions({
        navigate,
        openPalette: () => setPaletteOpen(true),
        openHelp: () => setHelpOpen(true),
      }),
    [navigate],
  );
  useShortcuts(actions);
  useEffect(
    () => host.watchMenu((id) => actions.find((action) => action.id === id)?.run()),
    [actions],
  );
  useThemeFromSettings();

  const place = places.find(({ path }) => pathname.startsWith(path))?.label;
  useEffect(() => {
    document.title = place ? `${place} · Kinora` : 'Kinora';
  }, [place]);

  if (status === 'unauthorized') return <Pairing />;
  return (
    <div className="flex h-full">
      <a
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
        className="bg-lamp text-on-lamp fixed top-2 left-2 z-[70] -translate-y-20 rounded-md px-3 py-2 font-semibold focus:translate-y-0"
      >
        Skip to the page
      </a>
      <Rail />
      <div className="flex min-w-0 flex-1 flex-col">
        <Header onPalette={() => setPaletteOpen(true)} onHelp={() => setHelpOpen(true)} />
        <ConnectionBanner />
        <main id="main" tabIndex={-1} className="min-h-0 flex-1 outline-none">
          <Suspense fallback={null}>
            <Outlet />
          </Suspense>
        </main>
        <BottomBar />
      </div>
      <Suspense fallback={null}>
        {overlay.asset && <Viewer id={overlay.asset} />}
        {overlay.job && <JobDetail id={overlay.job} />}
      </Suspense>
      <Palette isOpen={isPaletteOpen} onOpen={setPaletteOpen} actions={actions} />
      <Help isOpen={isHelpOpen} onOpen={setHelpOpen} actions={actions} />
      <FileDrops />
      <Toaster
        theme={theme}
        position="bottom-right"
        closeButton
        offset={16}
        mobileOffset={{ bottom: 76 }}
        toastOptions={{ closeButtonAriaLabel: 'Close this message' }}
      />
    </div>
  );
}
