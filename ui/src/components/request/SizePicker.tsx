// The shape of a picture: ratios to look at, and exact pixels below them.
import { ArrowLeftRight } from 'lucide-react';
import { RadioGroup } from 'radix-ui';

import type { SizeRule } from '@/api/types';
import { IconButton } from '@/components/ui/Button';
import { Messages, type FieldMessages } from '@/components/ui/Field';
import { NumberInput } from '@/components/ui/NumberInput';
import { cx } from '@/lib/cx';
import { ratioLabel } from '@/lib/format';

interface SizePickerProps extends FieldMessages {
  rule: SizeRule;
  /** What a form starts with. */
  fallback: { width: number; height: number };
  /** Whether there is a picture whose shape the result takes when no size is chosen. */
  isLikePicture?: boolean;
  width: number | null;
  height: number | null;
  onValue(width: number | null, height: number | null): void;
}

export function SizePicker({
  rule,
  fallback,
  isLikePicture = false,
  width,
  height,
  onValue,
  problems = [],
  notes = [],
}: SizePickerProps) {
  const w = width ?? fallback.width;
  const h = height ?? fallback.height;
  const isFollowing = isLikePicture && width === null && height === null;
  const current = isFollowing
    ? undefined
    : rule.presets.find((preset) => preset.width === w && preset.height === h);
  return (
    <fieldset className="flex min-w-0 flex-col gap-2">
      <legend className="text-ink-2 mb-1.5 flex w-full items-center justify-between text-sm font-medium">
        Size
        <span className="text-ink-3 tnum text-xs font-normal">
          {isFollowing
            ? 'shaped like the picture'
            : (current?.label ?? (ratioLabel(w, h) || 'custom'))}
        </span>
      </legend>
      <RadioGroup.Root
        aria-label="Aspect ratio"
        orientation="horizontal"
        value={current?.label ?? ''}
        onValueChange={(label) => {
          const preset = rule.presets.find((candidate) => candidate.label === label);
          if (preset) onValue(preset.width, preset.height);
        }}
        className="grid grid-cols-[repeat(auto-fit,minmax(2.1rem,1fr))] gap-1"
      >
        {rule.presets.map((preset) => (
          <RadioGroup.Item
            key={preset.label}
            value={preset.label}
            aria-label={`${preset.label}, ${preset.width} by ${preset.height} pixels`}
            className="group border-line hover:bg-hover data-[state=checked]:border-lamp data-[state=checked]:bg-lamp-wash flex h-14 min-w-0 flex-col items-center justify-end gap-1 rounded-md border pb-1"
          >
            <span className="grid h-7 w-8 place-items-center" aria-hidden="true">
              <span
                className="border-ink-3 group-data-[state=checked]:border-lamp-ink group-data-[state=checked]:bg-lamp/25 block rounded-[2px] border-[1.5px]"
                style={frame(preset.width / preset.height)}
              />
            </span>
            <span className="text-ink-2 group-data-[state=checked]:text-lamp-ink tnum text-xs">
              {preset.label}
            </span>
          </RadioGroup.Item>
        ))}
      </RadioGroup.Root>
      <div className="flex items-center gap-2">
        {(['width', 'height'] as const).map((side) => (
          <label
            key={side}
            className={cx('flex min-w-0 flex-1 items-center gap-2', side === 'height' && 'order-3')}
          >
            <span className="text-ink-3 text-xs">{side === 'width' ? 'W' : 'H'}</span>
            <span className="sr-only">{side === 'width' ? 'Width' : 'Height'} in pixels</span>
            <NumberInput
              value={side === 'width' ? width : height}
              placeholder={isFollowing ? 'auto' : String(fallback[side])}
              min={rule.min}
              max={rule.max}
              step={rule.multiple}
              aria-invalid={problems.length ? true : undefined}
              onValue={(value) =>
                side === 'width'
                  ? onValue(value, height ?? (value === null ? null : h))
                  : onValue(width ?? (value === null ? null : w), value)
              }
            />
          </label>
        ))}
        <IconButton
          label="Swap width and height"
          size="sm"
          className="order-2"
          onClick={() => onValue(h, w)}
        >
          <ArrowLeftRight size={15} aria-hidden="true" />
        </IconButton>
      </div>
      {isLikePicture && !isFollowing && (
        <button
          type="button"
          className="text-ink-2 hover:text-ink self-start text-xs underline underline-offset-2"
          onClick={() => onValue(null, null)}
        >
          Shape it like the picture
        </button>
      )}
      <Messages problems={problems} notes={notes} />
    </fieldset>
  );
}

/** A frame of that ratio that fits 28 × 26, and looks as large as the others. */
function frame(ratio: number): { width: number; height: number } {
  const area = 300;
  const width = Math.min(28, Math.sqrt(area * ratio));
  return { width: Math.round(width), height: Math.round(Math.min(26, width / ratio)) };
}
