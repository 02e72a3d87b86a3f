// A picture or a clip over the page, as large as there is room, with everything that is known about it.
import {
  ChevronLeft,
  ChevronRight,
  Copy,
  Download,
  Clapperboard,
  Film,
  FolderOpen,
  ImageUp,
  PanelRight,
  Repeat2,
  RotateCw,
  Sparkles,
  Trash2,
  Undo2,
  X,
  ZoomIn,
} from 'lucide-react';
import { Dialog } from 'radix-ui';
import { useRef, useState, type KeyboardEvent } from 'react';
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { host } from '@/api/host';
import { assetUrl, thumbnailUrl } from '@/api/media';
import { useAsset } from '@/api/queries';
import { settingsOf } from '@/api/settings-of';
import type { Asset } from '@/api/types';
import { Player, type PlayerHandle } from '@/components/player/Player';
import { useBeginClip, useStartFrom } from '@/components/take-picture';
import { toastError } from '@/components/toast';
import { IconButton } from '@/components/ui/Button';
import { focusContent, useFocusReturn } from '@/components/ui/Dialog';
import { ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { useClips } from '@/components/use-clips';
import { useTrash } from '@/components/use-trash';
import { copyText } from '@/lib/clipboard';
import { cx } from '@/lib/cx';
import { loadSettings } from '@/lib/draft';
import { formatCount } from '@/lib/format';
import { useMediaQuery } from '@/lib/hooks';
import { useOverlay, viewerList, type ViewerList } from '@/lib/overlay';
import { singleKeysStore } from '@/lib/preferences';
import { useStore } from '@/lib/store';
import { Facts } from './Facts';
import { ZoomStage, type ZoomHandle } from './ZoomStage';

/** How far a picture may have moved down its list by newer ones that came in meanwhile. */
const MOST_DRIFT = 120;

/** Where the picture is in its list by now; where it was when it is not found. */
async function findPlace(list: ViewerList, id: string): Promise<number> {
  for (let at = list.index; at < Math.min(list.total, list.index + MOST_DRIFT); at += 1) {
    if ((await list.idAt(at)) === id) return at;
  }
  return list.index;
}

export default function Viewer({ id }: { id: string }) {
  const { data: asset, error, refetch } = useAsset(id);
  const { close, stepAsset } = useOverlay();
  const list = useStore(viewerList);
  const zoom = useRef<ZoomHandle>(null);
  const player = useRef<PlayerHandle>(null);
  const isWide = useMediaQuery('(min-width: 64rem)');
  const [hasPanel, setPanel] = useState<boolean | null>(null);
  const isPanelOpen = hasPanel ?? isWide;

  const canStep = (by: number) =>
    list !== null && list.index + by >= 0 && list.index + by < list.total;
  const step = async (by: number) => {
    if (!list) return;
    const at = (await findPlace(list, id)) + by;
    const next = at >= 0 && at < list.total ? await list.idAt(at) : undefined;
    if (next) stepAsset(next, at);
  };
  const actions = useActions(asset, async () => {
    // What comes after a trashed picture moves into its place.
    if (list && list.total > 1) {
      const next = (await list.idAt(list.index + 1)) ?? (await list.idAt(list.index - 1));
      if (next && next !== id) return stepAsset(next, list.index);
    }
    close();
  });

  const onKeyDown = (event: KeyboardEvent) => {
    // What a control has used, the scrubber's arrows above all, is not for the page.
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (player.current?.onKey(event)) return;
    if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
      event.preventDefault();
      void step(event.key === 'ArrowRight' ? 1 : -1);
      return;
    }
    if (event.key === 'Delete') return actions.trash();
    if (!singleKeysStore.get()) return;
    if (event.key === 'z') zoom.current?.toggle();
    if (event.key === 'u') actions.use();
    if (event.key === 'i') setPanel(!isPanelOpen);
    if (event.key === 'v') actions.animate();
    if (event.key === 'd') actions.makeFull();
  };

  const focus = useFocusReturn(focusContent);
  return (
    <Dialog.Root open onOpenChange={(isOpen) => !isOpen && close()}>
      <Dialog.Portal>
        <Dialog.Content
          aria-describedby={undefined}
          onKeyDown={onKeyDown}
          {...focus}
          className="bg-canvas animate-appear fixed inset-0 z-40 flex flex-col outline-none"
        >
          <header className="bg-panel border-line flex h-12 shrink-0 items-center gap-1 border-b px-2 md:px-3">
            <Dialog.Close asChild>
              <IconButton label="Close" chord="escape">
                <X size={18} aria-hidden="true" />
              </IconButton>
            </Dialog.Close>
            <Dialog.Title className="sr-only">{asset?.clip ? 'Video' : 'Picture'}</Dialog.Title>
            {list && (
              <span className="text-ink-3 tnum px-1 text-sm max-sm:hidden">
                {formatCount(list.index + 1)} of {formatCount(list.total)}
              </span>
            )}
            <div className="flex-1" />
            <IconButton
              label="Use these settings"
              chord="u"
              onClick={actions.use}
              disabled={!asset}
            >
              <Repeat2 size={18} aria-hidden="true" />
            </IconButton>
            {asset?.kind === 'image' && (
              <IconButton label="Start from this picture" onClick={actions.start}>
                <ImageUp size={18} aria-hidden="true" />
              </IconButton>
            )}
            {asset?.kind === 'image' && actions.canAnimate && (
              <>
                <IconButton
                  label="Make it move: a draft, at once"
                  chord="v"
                  onClick={actions.animate}
                >
                  <Clapperboard size={18} aria-hidden="true" />
                </IconButton>
                <IconButton
                  label="Begin a clip with it, on the Video page"
                  onClick={actions.beginClip}
                >
                  <Film size={17} aria-hidden="true" />
                </IconButton>
              </>
            )}
            {asset?.recipe.plan.draft && (
              <IconButton label="Make the draft full" chord="d" onClick={actions.makeFull}>
                <Sparkles size={18} aria-hidden="true" />
              </IconButton>
            )}
            <IconButton
              label="Make it again, from its recipe"
              onClick={actions.again}
              disabled={!asset}
              className="max-sm:hidden"
            >
              <RotateCw size={17} aria-hidden="true" />
            </IconButton>
            <IconButton label="Copy the prompt" onClick={actions.copyPrompt} disabled={!asset}>
              <Copy size={17} aria-hidden="true" />
            </IconButton>
            {!asset?.clip && (
              <IconButton
                label="Fit, or one to one"
                chord="z"
                onClick={() => zoom.current?.toggle()}
              >
                <ZoomIn size={18} aria-hidden="true" />
              </IconButton>
            )}
            <IconButton label="Download" onClick={actions.download} disabled={!asset}>
              <Download size={18} aria-hidden="true" />
            </IconButton>
            {host.has.reveal && (
              <IconButton label="Show in folder" onClick={actions.reveal} disabled={!asset}>
                <FolderOpen size={18} aria-hidden="true" />
              </IconButton>
            )}
            {asset?.trashed_at != null ? (
              <IconButton label="Restore from the trash" onClick={actions.restore}>
                <Undo2 size={18} aria-hidden="true" />
              </IconButton>
            ) : (
              <IconButton
                label="To the trash"
                chord="delete"
                onClick={actions.trash}
                disabled={!asset}
              >
                <Trash2 size={17} aria-hidden="true" />
              </IconButton>
            )}
            <IconButton
              label="Details"
              chord="i"
              isPressed={isPanelOpen}
              onClick={() => setPanel(!isPanelOpen)}
            >
              <PanelRight size={18} aria-hidden="true" />
            </IconButton>
          </header>
          <div className="flex min-h-0 flex-1 max-lg:flex-col">
            <div className="relative min-h-0 min-w-0 flex-1 p-2 md:p-4">
              {error ? (
                <ErrorNotice
                  error={error}
                  onRetry={() => void refetch()}
                  className="mx-auto mt-12 max-w-lg"
                />
              ) : asset ? (
                asset.clip ? (
                  <Player
                    key={asset.id}
                    handle={player}
                    src={assetUrl(asset.id)}
                    poster={thumbnailUrl(asset.id, 512)}
                    label={asset.recipe.plan.prompt}
                    format={asset.format}
                    clip={asset.clip}
                  />
                ) : (
                  <ZoomStage
                    handle={zoom}
                    src={assetUrl(asset.id)}
                    alt={asset.recipe.plan.prompt}
                    width={asset.width}
                    height={asset.height}
                  />
                )
              ) : (
                <Skeleton className="size-full" />
              )}
              {([-1, 1] as const).map(
                (by) =>
                  list &&
                  list.total > 1 && (
                    <button
                      key={by}
                      type="button"
                      aria-label={by < 0 ? 'Previous picture' : 'Next picture'}
                      disabled={!canStep(by)}
                      onClick={() => void step(by)}
                      className={cx(
                        'bg-panel/85 text-ink hover:bg-panel absolute top-1/2 grid size-11 -translate-y-1/2 place-items-center rounded-full transition-opacity disabled:opacity-0',
                        by < 0 ? 'left-3' : 'right-3',
                      )}
                    >
                      {by < 0 ? (
                        <ChevronLeft size={22} aria-hidden="true" />
                      ) : (
                        <ChevronRight size={22} aria-hidden="true" />
                      )}
                    </button>
                  ),
              )}
            </div>
            {isPanelOpen && (
              <aside
                aria-label="About this picture"
                className="bg-panel border-line shrink-0 overflow-y-auto p-5 max-lg:h-[45%] max-lg:border-t lg:w-[22rem] lg:border-l"
              >
                {asset ? <Facts asset={asset} /> : <Skeleton className="h-80" />}
              </aside>
            )}
          </div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function useActions(asset: Asset | undefined, afterTrash: () => Promise<void>) {
  const { close } = useOverlay();
  const navigate = useNavigate();
  const trash = useTrash();
  const restore = useCommand('assets_restore');
  const run = useCommand('recipes_run');
  const startFrom = useStartFrom();
  const beginClip = useBeginClip();
  const clips = useClips();
  return {
    canAnimate: clips.canAnimate && asset?.trashed_at === null,
    animate: () => {
      if (asset?.kind === 'image' && asset.trashed_at === null && clips.canAnimate) {
        clips.animate([`asset:${asset.id}`]);
      }
    },
    beginClip: () => {
      if (!asset) return;
      close();
      void beginClip(`asset:${asset.id}`);
    },
    makeFull: () => {
      if (asset?.recipe.plan.draft) clips.makeFull([asset.id], asset.kind === 'video');
    },
    start: () => {
      if (!asset) return;
      close();
      void startFrom(`asset:${asset.id}`);
    },
    use: () => {
      if (!asset) return;
      const page = loadSettings(settingsOf(asset.recipe.plan));
      close();
      void navigate(page);
      toast.success('Settings are in the form, seed included.');
    },
    again: () => {
      if (!asset) return;
      run.mutate(
        { recipe: asset.recipe },
        {
          onSuccess: () => toast.success('Queued again from its recipe.'),
          onError: toastError,
        },
      );
    },
    copyPrompt: () => {
      if (asset) {
        void copyText(asset.recipe.plan.prompt).then(
          () => toast.success('Prompt copied.'),
          toastError,
        );
      }
    },
    download: () => {
      if (!asset) return;
      const name = asset.path.split('/').pop() ?? `${asset.id}.png`;
      void host.saveAsset(asset.id, name).catch(toastError);
    },
    reveal: () => {
      if (asset) void host.revealAsset(asset.id).catch(toastError);
    },
    trash: () => {
      if (asset && asset.trashed_at === null) trash([asset.id], () => void afterTrash());
    },
    restore: () => {
      if (asset) {
        restore.mutate(
          { ids: [asset.id] },
          { onSuccess: () => toast.success('Back in the gallery.'), onError: toastError },
        );
      }
    },
  };
}
