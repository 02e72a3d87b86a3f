// A list of actions behind a button.
import { DropdownMenu as Radix } from 'radix-ui';
import type { ReactNode } from 'react';

import { cx } from '@/lib/cx';
import { Keys } from './Keys';

export interface MenuAction {
  label: string;
  icon?: ReactNode;
  chord?: string;
  isDangerous?: boolean;
  isDisabled?: boolean;
  onSelect(): void;
}

export function Menu({
  trigger,
  actions,
  align = 'end',
}: {
  trigger: ReactNode;
  actions: (MenuAction | null)[];
  align?: 'start' | 'end';
}) {
  return (
    <Radix.Root modal={false}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          align={align}
          sideOffset={5}
          collisionPadding={8}
          className="shadow-float animate-appear bg-panel z-50 min-w-48 rounded-md p-1"
        >
          {actions.map((action, index) =>
            action === null ? (
              <Radix.Separator key={`gap-${index}`} className="bg-line my-1 h-px" />
            ) : (
              <Radix.Item
                key={action.label}
                disabled={action.isDisabled}
                onSelect={action.onSelect}
                className={cx(
                  'data-highlighted:bg-hover flex min-h-8 cursor-default items-center gap-2.5 rounded-sm px-2.5 text-base outline-none select-none data-disabled:opacity-50',
                  action.isDangerous && 'text-bad',
                )}
              >
                <span
                  className={cx('grid w-4 place-items-center', !action.isDangerous && 'text-ink-3')}
                >
                  {action.icon}
                </span>
                <span className="flex-1">{action.label}</span>
                {action.chord && <Keys chord={action.chord} />}
              </Radix.Item>
            ),
          )}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
