// Windows over the page: dialogues, and the question before something is lost.
import { X } from 'lucide-react';
import { AlertDialog, Dialog as Radix } from 'radix-ui';
import { useRef, type ReactNode } from 'react';

import { cx } from '@/lib/cx';
import { Button, IconButton } from './Button';

/**
 * Puts the focus on the window itself unless a field asks for it: on the close button it would pop
 * its tooltip up.
 */
export function focusContent(event: globalThis.Event): void {
  const content = event.currentTarget as HTMLElement;
  event.preventDefault();
  (content.querySelector<HTMLElement>('[autofocus], [data-autofocus]') ?? content).focus();
}

/**
 * Gives the focus back to where it was before the window opened. Radix gives it to the window's
 * trigger, and windows that are opened by an address or a key have none.
 */
export function useFocusReturn(onOpen?: (event: globalThis.Event) => void) {
  const before = useRef<Element | null>(null);
  return {
    onOpenAutoFocus: (event: globalThis.Event) => {
      before.current = document.activeElement;
      onOpen?.(event);
    },
    onCloseAutoFocus: (event: globalThis.Event) => {
      event.preventDefault();
      const element = before.current;
      const isThere = element instanceof HTMLElement && element.isConnected;
      (isThere && element !== document.body ? element : document.getElementById('main'))?.focus();
    },
  };
}

interface DialogProps {
  isOpen: boolean;
  onOpen(isOpen: boolean): void;
  title: ReactNode;
  description?: ReactNode;
  children: ReactNode;
  className?: string;
}

export function Dialog({ isOpen, onOpen, title, description, children, className }: DialogProps) {
  const focus = useFocusReturn(focusContent);
  return (
    <Radix.Root open={isOpen} onOpenChange={onOpen}>
      <Radix.Portal>
        <Radix.Overlay className="bg-scrim animate-appear fixed inset-0 z-40" />
        <Radix.Content
          {...(description ? {} : { 'aria-describedby': undefined })}
          {...focus}
          className={cx(
            'shadow-float bg-panel animate-rise fixed inset-x-3 top-[8vh] z-50 mx-auto flex outline-none max-h-[84vh] max-w-lg flex-col rounded-xl',
            className,
          )}
        >
          <header className="flex items-start gap-3 px-5 pt-4 pb-3">
            <div className="min-w-0 flex-1">
              <Radix.Title className="text-lg font-semibold">{title}</Radix.Title>
              {description && (
                <Radix.Description className="text-ink-2 mt-0.5 text-sm">
                  {description}
                </Radix.Description>
              )}
            </div>
            <Radix.Close asChild>
              <IconButton label="Close" size="sm" className="-mr-1.5">
                <X size={17} aria-hidden="true" />
              </IconButton>
            </Radix.Close>
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto px-5 pb-5">{children}</div>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

interface ConfirmProps {
  isOpen: boolean;
  onOpen(isOpen: boolean): void;
  title: string;
  children: ReactNode;
  action: string;
  isDangerous?: boolean;
  onConfirm(): void;
}

export function Confirm({
  isOpen,
  onOpen,
  title,
  children,
  action,
  isDangerous = true,
  onConfirm,
}: ConfirmProps) {
  const focus = useFocusReturn();
  return (
    <AlertDialog.Root open={isOpen} onOpenChange={onOpen}>
      <AlertDialog.Portal>
        <AlertDialog.Overlay className="bg-scrim animate-appear fixed inset-0 z-50" />
        <AlertDialog.Content
          {...focus}
          className="shadow-float bg-panel animate-rise fixed inset-x-3 top-[18vh] z-50 mx-auto max-w-md rounded-xl p-5"
        >
          <AlertDialog.Title className="text-lg font-semibold">{title}</AlertDialog.Title>
          <AlertDialog.Description asChild>
            <div className="text-ink-2 mt-1.5 text-base">{children}</div>
          </AlertDialog.Description>
          <div className="mt-5 flex justify-end gap-2">
            <AlertDialog.Cancel asChild>
              <Button>Keep</Button>
            </AlertDialog.Cancel>
            <AlertDialog.Action asChild>
              <Button variant={isDangerous ? 'danger' : 'primary'} onClick={onConfirm}>
                {action}
              </Button>
            </AlertDialog.Action>
          </div>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
