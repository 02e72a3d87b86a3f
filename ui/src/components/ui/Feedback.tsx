// What a page shows when there is nothing, nothing yet, or something is wrong; and small signs.
import { CircleAlert, RotateCw } from 'lucide-react';
import type { ReactNode } from 'react';

import { toApiError } from '@/api/error';
import { cx } from '@/lib/cx';
import { Button } from './Button';

export function EmptyState({
  icon,
  title,
  children,
  action,
  className,
}: {
  icon?: ReactNode;
  title: string;
  children?: ReactNode;
  action?: ReactNode;
  className?: string;
}) {
  return (
    <div
      className={cx(
        'animate-appear flex flex-col items-center justify-center gap-1.5 px-6 py-12 text-center',
        className,
      )}
    >
      {icon && <div className="text-ink-3 mb-2">{icon}</div>}
      <h2 className="text-lg font-semibold">{title}</h2>
      {children && <div className="text-ink-2 max-w-[46ch] text-base text-balance">{children}</div>}
      {action && <div className="mt-4 flex flex-wrap justify-center gap-2">{action}</div>}
    </div>
  );
}

export function ErrorNotice({
  error,
  onRetry,
  className,
}: {
  error: unknown;
  onRetry?: () => void;
  className?: string;
}) {
  const { message, hint } = toApiError(error);
  return (
    <div
      role="alert"
      className={cx('bg-bad-wash flex items-start gap-3 rounded-lg p-3.5', className)}
    >
      <CircleAlert size={18} className="text-bad mt-0.5 shrink-0" aria-hidden="true" />
      <div className="min-w-0 flex-1">
        <p className="text-ink font-medium">{message}</p>
        {hint && <p className="text-ink-2 mt-0.5 text-sm">{hint}</p>}
      </div>
      {onRetry && (
        <Button size="sm" icon={<RotateCw size={14} aria-hidden="true" />} onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Skeleton({ className }: { className?: string }) {
  return <div aria-hidden="true" className={cx('bg-raised animate-sheen rounded-md', className)} />;
}

type Tone = 'plain' | 'lamp' | 'good' | 'warn' | 'bad' | 'info';

const TONES: Record<Tone, string> = {
  plain: 'bg-raised text-ink-2',
  lamp: 'bg-lamp-wash text-lamp-ink',
  good: 'bg-good-wash text-good',
  warn: 'bg-warn-wash text-warn',
  bad: 'bg-bad-wash text-bad',
  info: 'bg-info-wash text-info',
};

export function Badge({
  tone = 'plain',
  children,
  className,
}: {
  tone?: Tone;
  children: ReactNode;
  className?: string;
}) {
  return (
    <span
      className={cx(
        'inline-flex h-5 items-center gap-1 rounded-sm px-1.5 text-xs font-medium whitespace-nowrap',
        TONES[tone],
        className,
      )}
    >
      {children}
    </span>
  );
}

/** A bar from 0 to 1; `null` where there is work but no measure. */
export function ProgressBar({
  value,
  label,
  tone = 'lamp',
  className,
}: {
  value: number | null;
  label: string;
  tone?: 'lamp' | 'good' | 'bad' | 'info' | 'plain';
  className?: string;
}) {
  const fill = {
    lamp: 'bg-lamp',
    good: 'bg-good-fill',
    bad: 'bg-bad',
    info: 'bg-info-fill',
    plain: 'bg-ink-3',
  }[tone];
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={value === null ? undefined : Math.round(value * 100)}
      className={cx('bg-hover h-1 overflow-hidden rounded-full', className)}
    >
      {value === null ? (
        <div className={cx('animate-sheen h-full w-full opacity-70', fill)} />
      ) : (
        <div
          className={cx('h-full origin-left rounded-full transition-transform duration-150', fill)}
          style={{ transform: `scaleX(${Math.min(1, Math.max(0, value))})` }}
        />
      )}
    </div>
  );
}
