// One of a few choices, side by side.
import { RadioGroup } from 'radix-ui';
import type { ReactNode } from 'react';

import { cx } from '@/lib/cx';
import { formatCount } from '@/lib/format';

interface SegmentedProps<T extends string> {
  label: string;
  value: T;
  /** `name` is read out where the label is a sign. */
  options: { value: T; label: ReactNode; name?: string; count?: number }[];
  onValue(value: T): void;
  className?: string;
}

export function Segmented<T extends string>({
  label,
  value,
  options,
  onValue,
  className,
}: SegmentedProps<T>) {
  return (
    <RadioGroup.Root
      aria-label={label}
      value={value}
      onValueChange={(next) => onValue(next as T)}
      orientation="horizontal"
      className={cx(
        'bg-raised border-line inline-flex max-w-full overflow-x-auto rounded-md border p-0.5',
        className,
      )}
    >
      {options.map((option) => (
        <RadioGroup.Item
          key={option.value}
          value={option.value}
          aria-label={option.name}
          title={option.name}
          className="text-ink-2 hover:text-ink data-[state=checked]:bg-panel data-[state=checked]:text-ink inline-flex h-7 pointer-coarse:h-9 flex-[1_0_auto] items-center justify-center gap-1.5 rounded-sm px-2.5 text-sm font-medium whitespace-nowrap data-[state=checked]:shadow-sm"
        >
          {option.label}
          {option.count !== undefined && (
            <span className="tnum text-ink-3 text-xs">{formatCount(option.count)}</span>
          )}
        </RadioGroup.Item>
      ))}
    </RadioGroup.Root>
  );
}
