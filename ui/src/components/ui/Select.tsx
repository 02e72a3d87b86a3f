// A choice from a list.
import { Check, ChevronDown } from 'lucide-react';
import { Select as Radix } from 'radix-ui';

import { cx } from '@/lib/cx';
import { controlClass } from './Field';

export interface Option<T extends string> {
  value: T;
  label: string;
  detail?: string;
  /** A line below the label. */
  about?: string;
}

interface SelectProps<T extends string> {
  value: T;
  options: Option<T>[];
  onValue(value: T): void;
  id?: string;
  className?: string;
  'aria-label'?: string;
  'aria-labelledby'?: string;
  'aria-describedby'?: string;
  'aria-invalid'?: true;
}

// Radix does not allow the empty value, which here is an ordinary one ("any", "default").
const EMPTY = '\u0000';

export function Select<T extends string>({
  value,
  options,
  onValue,
  className,
  ...props
}: SelectProps<T>) {
  return (
    <Radix.Root
      value={value || EMPTY}
      onValueChange={(next) => onValue((next === EMPTY ? '' : next) as T)}
    >
      <Radix.Trigger
        {...props}
        className={cx(
          controlClass,
          'flex h-9 min-w-0 items-center justify-between gap-2 px-2.5 text-left text-base',
          className ?? 'w-full',
        )}
      >
        <span className="truncate">
          <Radix.Value />
        </span>
        <ChevronDown size={15} className="text-ink-3 shrink-0" aria-hidden="true" />
      </Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          position="popper"
          sideOffset={5}
          collisionPadding={8}
          className="shadow-float animate-appear bg-panel z-50 max-h-[min(24rem,var(--radix-select-content-available-height))] max-w-[min(30rem,var(--radix-select-content-available-width))] min-w-[var(--radix-select-trigger-width)] overflow-hidden rounded-md p-1"
        >
          <Radix.Viewport>
            {options.map(({ value: option, label, detail, about }) => (
              <Radix.Item
                key={option}
                value={option || EMPTY}
                className="data-highlighted:bg-hover flex min-h-8 cursor-default items-center gap-2 rounded-sm py-1 pr-2 pl-7 text-base outline-none select-none"
              >
                <Radix.ItemIndicator className="text-lamp-ink absolute left-2.5">
                  <Check size={14} aria-hidden="true" />
                </Radix.ItemIndicator>
                <span className="flex min-w-0 flex-col break-words">
                  <Radix.ItemText>{label}</Radix.ItemText>
                  {about && (
                    <span className="text-ink-3 text-xs [overflow-wrap:anywhere]">{about}</span>
                  )}
                </span>
                {detail && (
                  <span className="text-ink-3 ml-auto shrink-0 pl-2 text-xs">{detail}</span>
                )}
              </Radix.Item>
            ))}
          </Radix.Viewport>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
