// The frame of a page: its title, its actions, its content.
import type { ReactNode } from 'react';

import { cx } from '@/lib/cx';

export function Page({
  title,
  about,
  actions,
  children,
  className,
}: {
  title: string;
  about?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  className?: string;
}) {
  return (
    <div className="flex h-full min-h-0 flex-col">
      <header className="flex flex-wrap items-center gap-x-4 gap-y-2 px-4 pt-4 pb-3 md:px-6">
        <div className="mr-auto min-w-0">
          <h1 className="text-xl font-semibold tracking-tight">{title}</h1>
          {about && <div className="text-ink-2 text-sm">{about}</div>}
        </div>
        {actions && <div className="flex flex-wrap items-center gap-2">{actions}</div>}
      </header>
      <div className={cx('min-h-0 flex-1', className)}>{children}</div>
    </div>
  );
}

export function Card({
  title,
  aside,
  children,
  className,
}: {
  title?: ReactNode;
  aside?: ReactNode;
  children: ReactNode;
  className?: string;
}) {
  return (
    <section className={cx('bg-panel border-line rounded-lg border p-4', className)}>
      {(title || aside) && (
        <div className="mb-3 flex items-center justify-between gap-3">
          <h2 className="font-semibold">{title}</h2>
          {aside}
        </div>
      )}
      {children}
    </section>
  );
}
