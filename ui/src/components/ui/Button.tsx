// Buttons, with and without words.
import { LoaderCircle } from 'lucide-react';
import type { ButtonHTMLAttributes, ReactNode, Ref } from 'react';

import { cx } from '@/lib/cx';
import { Tooltip } from './Tooltip';

type Variant = 'primary' | 'secondary' | 'ghost' | 'danger';
type ButtonSize = 'sm' | 'md' | 'lg';

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  variant?: Variant;
  size?: ButtonSize;
  icon?: ReactNode;
  isBusy?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

const VARIANTS: Record<Variant, string> = {
  primary:
    'bg-lamp text-on-lamp font-semibold hover:bg-lamp-hover disabled:bg-raised disabled:text-ink-3 aria-disabled:bg-raised aria-disabled:text-ink-3',
  secondary:
    'bg-raised text-ink border border-line hover:bg-hover disabled:text-ink-3 disabled:hover:bg-raised aria-disabled:text-ink-3 aria-disabled:hover:bg-raised',
  ghost:
    'text-ink-2 hover:bg-hover hover:text-ink disabled:text-ink-3 disabled:hover:bg-transparent',
  danger: 'bg-bad-fill text-white font-semibold hover:brightness-110 disabled:opacity-60',
};

const SIZES: Record<ButtonSize, string> = {
  // Fingers need more room than a pointer.
  sm: 'h-8 pointer-coarse:h-10 px-2.5 text-sm gap-1.5 rounded-md',
  md: 'h-9 pointer-coarse:h-10 px-3.5 text-sm gap-2 rounded-md',
  lg: 'h-11 px-5 text-base gap-2 rounded-lg',
};

export function Button({
  variant = 'secondary',
  size = 'md',
  icon,
  isBusy,
  className,
  children,
  disabled,
  ...props
}: ButtonProps) {
  return (
    <button
      type="button"
      className={cx(
        'inline-flex shrink-0 items-center justify-center font-medium whitespace-nowrap transition-colors select-none disabled:cursor-not-allowed',
        VARIANTS[variant],
        SIZES[size],
        className,
      )}
      disabled={disabled || isBusy}
      aria-busy={isBusy || undefined}
      {...props}
    >
      {isBusy ? <LoaderCircle size={16} className="animate-spin" aria-hidden="true" /> : icon}
      {children}
    </button>
  );
}

export interface IconButtonProps extends Omit<ButtonProps, 'children' | 'icon'> {
  /** What it does; read out and shown as its tooltip. */
  label: string;
  /** Keys that do the same, shown in the tooltip. */
  chord?: string;
  isPressed?: boolean;
  children: ReactNode;
  side?: 'top' | 'bottom' | 'left' | 'right';
}

const SQUARE: Record<ButtonSize, string> = {
  sm: 'size-8 pointer-coarse:size-10 rounded-md',
  md: 'size-9 pointer-coarse:size-10 rounded-md',
  lg: 'size-11 rounded-lg',
};

export function IconButton({
  label,
  chord,
  isPressed,
  variant = 'ghost',
  size = 'md',
  className,
  children,
  side,
  ...props
}: IconButtonProps) {
  return (
    <Tooltip label={label} chord={chord} side={side}>
      <button
        type="button"
        aria-label={label}
        aria-pressed={isPressed}
        className={cx(
          'inline-grid shrink-0 place-items-center transition-colors disabled:cursor-not-allowed',
          VARIANTS[variant],
          SQUARE[size],
          isPressed && 'bg-lamp-wash text-lamp-ink',
          className,
        )}
        {...props}
      >
        {children}
      </button>
    </Tooltip>
  );
}
