// What a control does, on hover and focus.
import { Tooltip as Radix } from 'radix-ui';
import type { ReactNode } from 'react';

import { Keys } from './Keys';

export const TooltipProvider = ({ children }: { children: ReactNode }) => (
  <Radix.Provider delayDuration={450} skipDelayDuration={200}>
    {children}
  </Radix.Provider>
);

export function Tooltip({
  label,
  chord,
  side = 'bottom',
  children,
}: {
  label: ReactNode;
  chord?: string;
  side?: 'top' | 'bottom' | 'left' | 'right';
  children: ReactNode;
}) {
  return (
    <Radix.Root>
      <Radix.Trigger asChild>{children}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          side={side}
          sideOffset={6}
          collisionPadding={8}
          className="shadow-float animate-appear bg-panel text-ink z-50 flex max-w-72 items-center gap-2 rounded-md px-2.5 py-1.5 text-sm"
        >
          {label}
          {chord && <Keys chord={chord} />}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
