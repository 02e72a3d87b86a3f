// One picture or clip of the grid: its thumbnail, its mark; on hover its prompt, and a clip plays.
import { Check, Clapperboard, Sparkles, Volume2 } from 'lucide-react';
import { memo, useState, type MouseEvent } from 'react';

import { assetUrl, thumbnailUrl } from '@/api/media';
import type { Asset } from '@/api/types';
import { HoverClip } from '@/components/player/HoverClip';
import { formatLength, spellLength } from '@/components/player/time';
import { cx } from '@/lib/cx';

/** A picture begins to move, a draft is made full. */
export type TileAct = 'animate' | 'full';

export const Picture = memo(function Picture({
  asset,
  index,
  total,
  large,
  isActive,
  isSelected,
  hasSelection,
  act,
  onAct,
  onPick,
}: {
  asset: Asset;
  index: number;
  total: number;
  large: boolean;
  isActive: boolean;
  isSelected: boolean;
  hasSelection: boolean;
  /** What else the mouse can do with it. */
  act: TileAct | null;
  onAct(asset: Asset): void;
  onPick(event: MouseEvent, asset: Asset, index: number, isMark: boolean): void;
}) {
  const { clip } = asset;
  const [isOver, setOver] = useState(false);
  const seconds = (clip?.duration_ms ?? 0) / 1000;
  const prompt = asset.recipe.plan.prompt;
  return (
    // Keys are handled by the list box, which keeps the focus.
    // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
    <div
      id={`picture-${asset.id}`}
      role="option"
      aria-selected={isSelected}
      aria-label={`${asset.recipe.plan.draft ? 'Draft. ' : ''}${clip ? `Video, ${spellLength(seconds)}: ${prompt}` : prompt}`}
      aria-setsize={total}
      aria-posinset={index + 1}
      onClick={(event) => onPick(event, asset, index, false)}
      onPointerEnter={(event) => setOver(event.pointerType === 'mouse')}
      onPointerLeave={() => setOver(false)}
      className={cx(
        'group picture-ground relative size-full cursor-pointer overflow-hidden rounded-md',
        isSelected && 'ring-lamp ring-[3px]',
        isActive &&
          'group-focus-visible/grid:outline-lamp-ink group-focus-visible/grid:outline-2 group-focus-visible/grid:outline-offset-2',
      )}
    >
      <img
        src={thumbnailUrl(asset.id, large ? 512 : 256)}
        alt=""
        loading="lazy"
        decoding="async"
        draggable={false}
        className="size-full object-contain transition-opacity group-hover:opacity-95"
      />
      {clip && <HoverClip src={assetUrl(asset.id)} format={asset.format} isOver={isOver} />}
      <span
        aria-hidden="true"
        className="pointer-events-none absolute inset-x-0 bottom-0 bg-linear-to-t from-black/75 to-transparent px-2 pt-8 pb-1.5 text-xs text-white opacity-0 transition-opacity group-hover:opacity-100"
      >
        <span className={cx('clamp-2', act && 'pr-8')}>{prompt}</span>
      </span>
      {clip && (
        <span
          aria-hidden="true"
          className="tnum pointer-events-none absolute top-1.5 right-1.5 inline-flex items-center gap-1 rounded-sm bg-black/65 px-1.5 py-0.5 text-xs text-white"
        >
          {clip.has_sound ? <Volume2 size={12} /> : <Clapperboard size={12} />}
          {formatLength(seconds)}
        </span>
      )}
      {asset.recipe.plan.draft && (
        <span
          aria-hidden="true"
          className="pointer-events-none absolute bottom-1.5 left-1.5 rounded-sm bg-black/65 px-1.5 py-0.5 text-xs text-white transition-opacity group-hover:opacity-0"
        >
          Draft
        </span>
      )}
      {act && (
        // For the mouse only; the keyboard has v and d.
        <span
          aria-hidden="true"
          title={act === 'full' ? 'Make the draft full (d)' : 'Make it move: a draft, at once (v)'}
          onClick={(event) => {
            event.stopPropagation();
            onAct(asset);
          }}
          className="hover:bg-lamp hover:text-on-lamp absolute right-1.5 bottom-1.5 grid size-7 place-items-center rounded-full bg-black/60 text-white opacity-0 transition-opacity group-hover:opacity-100"
        >
          {act === 'full' ? <Sparkles size={15} /> : <Clapperboard size={15} />}
        </span>
      )}
      {/* For the mouse only; the keyboard selects with Space. */}
      <span
        aria-hidden="true"
        onClick={(event) => {
          event.stopPropagation();
          onPick(event, asset, index, true);
        }}
        className={cx(
          'absolute top-1.5 left-1.5 grid size-6 place-items-center rounded-full border-2 transition-opacity',
          isSelected
            ? 'border-lamp bg-lamp text-on-lamp'
            : 'border-white/90 bg-black/35 text-transparent group-hover:opacity-100',
          !isSelected && !hasSelection && 'opacity-0',
        )}
      >
        <Check size={14} strokeWidth={3} />
      </span>
    </div>
  );
});
