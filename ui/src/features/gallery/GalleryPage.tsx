// Gallery: every picture and clip, found by words, kind, model or session; smooth at any number.
import { useQueryClient } from '@tanstack/react-query';
import {
  ArrowDownWideNarrow,
  ArrowUpNarrowWide,
  Minus,
  Plus,
  Search,
  Trash2,
  X,
} from 'lucide-react';
import {
  useCallback,
  useEffect,
  useRef,
  useState,
  type KeyboardEvent,
  type MouseEvent,
} from 'react';
import { useSearchParams } from 'react-router';
import { toast } from 'sonner';

import { call, useCommand } from '@/api/client';
import { host } from '@/api/host';
import { keys, type AssetFilter } from '@/api/keys';
import { assetIdAt, useAssetWindow } from '@/api/queries';
import type { Asset } from '@/api/types';
import { GalleryIcon } from '@/components/icons';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Confirm } from '@/components/ui/Dialog';
import { EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { TextInput } from '@/components/ui/Field';
import { Segmented } from '@/components/ui/Segmented';
import { useClips } from '@/components/use-clips';
import { useTrash } from '@/components/use-trash';
import { VirtualGrid, type GridHandle } from '@/components/VirtualGrid';
import { plural } from '@/lib/format';
import { useDebounced, useLatest } from '@/lib/hooks';
import { useOverlay } from '@/lib/overlay';
import { gridSizeStore, singleKeysStore } from '@/lib/preferences';
import { useStore } from '@/lib/store';
import { ModelFilter, SessionFilter } from './filters';
import { Picture, type TileAct } from './Picture';
import { SelectionBar } from './SelectionBar';
import { moveByKey, noSelection, selectRange, toggle, type Selection } from './selection';

/** More downloads at once than a browser lets through. */
const MOST_DOWNLOADS = 30;

function useFilter() {
  const [params, setParams] = useSearchParams();
  const kind = params.get('kind');
  const filter: AssetFilter = {
    search: params.get('search') ?? undefined,
    kind: kind === 'image' || kind === 'video' ? kind : undefined,
    model: params.get('model') ?? undefined,
    session: params.get('session') ?? undefined,
    trashed: params.get('trash') === '1' || undefined,
    sort: params.get('sort') === 'oldest' ? 'oldest' : undefined,
  };
  const set = useCallback(
    (name: string, value: string | null) =>
      setParams(
        (now) => {
          const next = new URLSearchParams(now);
          if (value) next.set(name, value);
          else next.delete(name);
          return next;
        },
        { replace: true },
      ),
    [setParams],
  );
  return { filter, set };
}

/** Whether a letter is a shortcut of its own. */
function isPlainKey(event: KeyboardEvent): boolean {
  return !event.ctrlKey && !event.metaKey && !event.altKey && singleKeysStore.get();
}

export default function GalleryPage() {
  const { filter, set } = useFilter();
  const client = useQueryClient();
  const [words, setWords] = useState(filter.search ?? '');
  const settled = useDebounced(words, 200);
  const inAddress = filter.search ?? '';
  const [seenAddress, setSeenAddress] = useState(inAddress);
  if (seenAddress !== inAddress) {
    // The address was changed from elsewhere: the palette, or going back.
    setSeenAddress(inAddress);
    if (inAddress !== settled) setWords(inAddress);
  }
  useEffect(() => {
    set('search', settled.trim() || null);
  }, [settled, set]);

  const [range, setRange] = useState({ first: 0, last: 60 });
  const onRange = useCallback((first: number, last: number) => setRange({ first, last }), []);
  const list = useAssetWindow(filter, range.first, range.last);

  const [selection, setSelection] = useState<Selection>(noSelection);
  const key = JSON.stringify(filter);
  const [selectionKey, setSelectionKey] = useState(key);
  if (selectionKey !== key) {
    setSelectionKey(key);
    setSelection(noSelection);
  }

  const grid = useRef<GridHandle>(null);
  const size = useStore(gridSizeStore);
  const trash = useTrash();
  const restore = useCommand('assets_restore');
  const purge = useCommand('assets_purge');
  const [isPurging, setPurging] = useState(false);
  const { openAsset } = useOverlay();
  const clips = useClips();

  const ids = [...selection.ids];
  const count = ids.length;
  const isTrash = Boolean(filter.trashed);
  const isFiltered = Boolean(filter.search || filter.kind || filter.model || filter.session);
  const one = filter.kind === 'video' ? 'video' : filter.kind === 'image' ? 'picture' : 'result';
  const clear = () => setSelection((now) => ({ ...now, ids: new Set() }));
  const idAt = (index: number) => list.at(index)?.id;

  const open = (asset: Asset, index: number) =>
    openAsset(asset.id, {
      total: list.total,
      index,
      idAt: (at) => assetIdAt(client, filter, at),
    });

  // What a key means: the selection, else the picture that has the cursor.
  const active = idAt(selection.active);
  const meant = count ? ids : active ? [active] : [];
  const remove = () => {
    if (!isTrash) trash(meant, clear);
    else if (meant.length) setPurging(true);
  };

  const actOf = (asset: Asset): TileAct | null => {
    if (isTrash) return null;
    if (asset.recipe.plan.draft) return 'full';
    return asset.kind === 'image' && clips.canAnimate ? 'animate' : null;
  };
  /** Results by their ids: those on screen, and those that were scrolled away. */
  const assetsOf = (wanted: string[]) => {
    const shown = new Map<string, Asset>();
    for (let at = range.first; at <= range.last; at += 1) {
      const asset = list.at(at);
      if (asset) shown.set(asset.id, asset);
    }
    const read = (id: string) =>
      client.fetchQuery({
        queryKey: keys.asset(id),
        queryFn: () => call('assets_get', { id }),
        staleTime: 60_000,
      });
    return Promise.all(wanted.map((id) => shown.get(id) ?? read(id)));
  };
  const act = async (kind: TileAct, wanted: string[]) => {
    const able = (await assetsOf(wanted)).filter((asset) => actOf(asset) === kind);
    if (!able[0]) return;
    if (kind === 'animate') clips.animate(able.map(({ id }) => `asset:${id}`));
    else
      clips.makeFull(
        able.map(({ id }) => id),
        able[0].kind === 'video',
      );
  };
  const actOn = (kind: TileAct, wanted: string[]) => void act(kind, wanted).catch(toastError);
  const onAct = useLatest((asset: Asset) => {
    const kind = actOf(asset);
    if (kind) actOn(kind, [asset.id]);
  });
  /** Whether one of the selected results that are on screen can be that. */
  const hasSelected = (kind: TileAct) =>
    count > 0 &&
    Array.from({ length: range.last - range.first + 1 }, (_, i) => list.at(range.first + i)).some(
      (asset) => asset && selection.ids.has(asset.id) && actOf(asset) === kind,
    );

  const onKeyDown = (event: KeyboardEvent) => {
    const columns = grid.current?.columns ?? 1;
    const next = moveByKey(event.key, selection.active, columns, list.total, columns * 4);
    if (next !== null && list.total) {
      event.preventDefault();
      setSelection((now) =>
        event.shiftKey ? selectRange(now, next, idAt) : { ...now, active: next, anchor: next },
      );
      grid.current?.show(next);
      return;
    }
    const asset = list.at(selection.active);
    if (event.key === ' ' && asset) {
      event.preventDefault();
      setSelection((now) =>
        event.shiftKey ? selectRange(now, now.active, idAt) : toggle(now, asset.id, now.active),
      );
    } else if (event.key === 'Enter' && asset) {
      event.preventDefault();
      open(asset, selection.active);
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      event.preventDefault();
      remove();
    } else if ((event.key === 'v' || event.key === 'd') && isPlainKey(event)) {
      event.preventDefault();
      actOn(event.key === 'v' ? 'animate' : 'full', meant);
    } else if (event.key === 'Escape' && count) {
      event.preventDefault();
      clear();
    } else if (event.key.toLowerCase() === 'a' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      const all = new Set<string>();
      for (let at = range.first; at <= range.last; at += 1) {
        const id = idAt(at);
        if (id) all.add(id);
      }
      setSelection((now) => ({ ...now, ids: new Set([...now.ids, ...all]) }));
    }
  };

  const onPick = useLatest((event: MouseEvent, asset: Asset, index: number, isMark: boolean) => {
    if (event.shiftKey) setSelection((now) => selectRange(now, index, idAt));
    else if (isMark || event.ctrlKey || event.metaKey || count) {
      setSelection((now) => toggle(now, asset.id, index));
    } else {
      setSelection((now) => ({ ...now, active: index, anchor: index }));
      open(asset, index);
    }
  });

  const download = async () => {
    for (const id of ids.slice(0, MOST_DOWNLOADS)) {
      const asset = Array.from({ length: range.last - range.first + 1 }, (_, i) =>
        list.at(range.first + i),
      ).find((candidate) => candidate?.id === id);
      await host.saveAsset(id, asset?.path.split('/').pop() ?? `${id}.png`);
    }
    if (count > MOST_DOWNLOADS) {
      toast.info(`Took the first ${MOST_DOWNLOADS}. All files are in the outputs folder.`);
    }
  };

  return (
    <div className="flex h-full min-h-0 flex-col">
      <div className="flex flex-wrap items-center gap-2 px-4 pt-3 pb-3">
        <h1 className="mr-auto text-xl md:mr-2 font-semibold tracking-tight">
          {isTrash ? 'Trash' : 'Gallery'}
        </h1>
        <div className="relative min-w-0 grow max-sm:order-1 max-sm:basis-full sm:max-w-80">
          <Search
            size={15}
            className="text-ink-3 absolute top-1/2 left-2.5 -translate-y-1/2"
            aria-hidden="true"
          />
          <TextInput
            type="search"
            aria-label="Search by prompt, model or seed"
            placeholder="Prompt, model or seed"
            className="!pl-8"
            value={words}
            onChange={(event) => setWords(event.target.value)}
          />
        </div>
        <Segmented
          label="Kind"
          className="max-sm:order-1 max-sm:basis-full"
          value={filter.kind ?? 'all'}
          options={[
            { value: 'all', label: 'All' },
            { value: 'image', label: 'Images' },
            { value: 'video', label: 'Videos' },
          ]}
          onValue={(value) => set('kind', value === 'all' ? null : value)}
        />
        <ModelFilter value={filter.model ?? ''} onValue={(value) => set('model', value)} />
        <SessionFilter value={filter.session ?? ''} onValue={(value) => set('session', value)} />
        <span className="text-ink-3 tnum ml-1 text-sm max-md:hidden" aria-live="polite">
          {list.isLoading ? '' : plural(list.total, one)}
        </span>
        <div className="flex-1 max-md:hidden" />
        <IconButton
          size="sm"
          label={
            filter.sort
              ? 'Oldest first; show the newest first'
              : 'Newest first; show the oldest first'
          }
          isPressed={Boolean(filter.sort)}
          onClick={() => set('sort', filter.sort ? null : 'oldest')}
        >
          {filter.sort ? (
            <ArrowUpNarrowWide size={16} aria-hidden="true" />
          ) : (
            <ArrowDownWideNarrow size={16} aria-hidden="true" />
          )}
        </IconButton>
        <div className="flex items-center max-md:hidden">
          <IconButton
            size="sm"
            label="Smaller pictures"
            disabled={size <= 110}
            onClick={() => gridSizeStore.set((now) => Math.max(110, now - 40))}
          >
            <Minus size={15} aria-hidden="true" />
          </IconButton>
          <IconButton
            size="sm"
            label="Larger pictures"
            disabled={size >= 350}
            onClick={() => gridSizeStore.set((now) => Math.min(350, now + 40))}
          >
            <Plus size={15} aria-hidden="true" />
          </IconButton>
        </div>
        <Button
          size="sm"
          variant={isTrash ? 'secondary' : 'ghost'}
          icon={
            isTrash ? <X size={15} aria-hidden="true" /> : <Trash2 size={15} aria-hidden="true" />
          }
          onClick={() => set('trash', isTrash ? null : '1')}
        >
          {isTrash ? 'Leave the trash' : 'Trash'}
        </Button>
      </div>

      <div className="min-h-0 flex-1">
        {list.error ? (
          <ErrorNotice error={list.error} onRetry={list.refetch} className="m-4" />
        ) : !list.isLoading && list.total === 0 ? (
          <EmptyState
            className="h-full"
            icon={isTrash ? <Trash2 size={34} /> : <GalleryIcon size={38} />}
            title={
              isTrash
                ? 'The trash is empty'
                : isFiltered
                  ? `No ${filter.kind === 'video' ? 'video' : 'picture'} matches`
                  : 'No pictures yet'
            }
            action={
              isFiltered && (
                <Button
                  onClick={() => {
                    setWords('');
                    set('kind', null);
                    set('model', null);
                    set('session', null);
                  }}
                >
                  Show everything
                </Button>
              )
            }
          >
            {isTrash
              ? 'Deleted pictures wait here before they go for good.'
              : isFiltered
                ? 'Try fewer words, or another model or session.'
                : 'Everything that you make is kept here, with the settings that made it.'}
          </EmptyState>
        ) : (
          <VirtualGrid
            handle={grid}
            total={list.total}
            itemSize={size}
            gap={8}
            onRange={onRange}
            role="listbox"
            aria-label={isTrash ? 'Pictures in the trash' : 'Pictures'}
            aria-multiselectable="true"
            aria-activedescendant={
              list.at(selection.active) ? `picture-${list.at(selection.active)!.id}` : undefined
            }
            tabIndex={0}
            onKeyDown={onKeyDown}
            className="group/grid"
            item={(index) => {
              const asset = list.at(index);
              if (!asset) return <Skeleton className="size-full" />;
              return (
                <Picture
                  asset={asset}
                  index={index}
                  total={list.total}
                  large={size > 230}
                  isActive={index === selection.active}
                  isSelected={selection.ids.has(asset.id)}
                  hasSelection={count > 0}
                  act={actOf(asset)}
                  onAct={onAct}
                  onPick={onPick}
                />
              );
            }}
          />
        )}
      </div>

      {count > 0 && (
        <SelectionBar
          count={count}
          isTrash={isTrash}
          canMove={hasSelected('animate')}
          hasDrafts={hasSelected('full')}
          onAnimate={() => actOn('animate', ids)}
          onMakeFull={() => actOn('full', ids)}
          onRestore={() =>
            restore.mutate(
              { ids },
              {
                onSuccess: ({ assets }) => {
                  clear();
                  toast.success(`${plural(assets, 'picture')} restored.`);
                },
                onError: toastError,
              },
            )
          }
          onDownload={() => void download().catch(toastError)}
          onRemove={remove}
          onClear={clear}
        />
      )}
      <Confirm
        isOpen={isPurging && meant.length > 0}
        onOpen={setPurging}
        title={`Delete ${plural(meant.length, 'picture')} for good?`}
        action="Delete for good"
        onConfirm={() => purge.mutate({ ids: meant }, { onSuccess: clear, onError: toastError })}
      >
        The files are removed from the disk. This cannot be undone.
      </Confirm>
    </div>
  );
}
