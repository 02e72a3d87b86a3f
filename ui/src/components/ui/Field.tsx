// A labelled control with what is wrong with it, and the plain controls themselves.
import { CircleAlert, Info } from 'lucide-react';
import {
  useId,
  type InputHTMLAttributes,
  type ReactNode,
  type Ref,
  type TextareaHTMLAttributes,
} from 'react';

import { cx } from '@/lib/cx';

export interface FieldMessages {
  /** What is wrong with the value, and what to do. */
  problems?: { message: string; hint?: string }[];
  /** What would be decided differently. */
  notes?: string[];
}

interface FieldProps extends FieldMessages {
  label: ReactNode;
  /** Beside the label: a counter, a reset button. */
  aside?: ReactNode;
  hint?: ReactNode;
  isLabelHidden?: boolean;
  /** Label and control on one line, the aside between them. */
  isInline?: boolean;
  className?: string;
  children: (attributes: {
    id: string;
    'aria-describedby': string | undefined;
    'aria-invalid': true | undefined;
    'aria-labelledby': string;
  }) => ReactNode;
}

export function Field({
  label,
  aside,
  hint,
  problems = [],
  notes = [],
  isLabelHidden,
  isInline,
  className,
  children,
}: FieldProps) {
  const id = useId();
  const hasMessages = problems.length > 0 || notes.length > 0 || hint != null;
  const head = (
    <div
      className={cx(
        'flex min-h-5 items-center justify-between gap-2',
        isLabelHidden && 'sr-only',
        isInline && 'w-22 shrink-0',
      )}
    >
      <label htmlFor={id} id={`${id}-label`} className="text-ink-2 text-sm font-medium">
        {label}
      </label>
      {aside}
    </div>
  );
  const control = children({
    id,
    'aria-describedby': hasMessages ? `${id}-about` : undefined,
    'aria-invalid': problems.length ? true : undefined,
    'aria-labelledby': `${id}-label`,
  });
  return (
    <div className={cx('flex min-w-0 flex-col gap-1.5', className)}>
      {isInline ? (
        <div className="flex min-h-9 items-center gap-3">
          {head}
          <div className="min-w-0 flex-1">{control}</div>
        </div>
      ) : (
        <>
          {head}
          {control}
        </>
      )}
      {hasMessages && (
        <div id={`${id}-about`} className="flex flex-col gap-1">
          <Messages problems={problems} notes={notes} />
          {hint != null && !problems.length && <p className="text-ink-3 text-xs">{hint}</p>}
        </div>
      )}
    </div>
  );
}

/** What went wrong is told without a full stop, so that it can stand behind a field's name too. */
const asSentence = (message: string) => (/[.!?…]$/.test(message) ? message : `${message}.`);

export function Messages({ problems = [], notes = [] }: FieldMessages) {
  return (
    <>
      {problems.map(({ message, hint }) => (
        <p key={message} role="alert" className="text-bad flex gap-1.5 text-xs">
          <CircleAlert size={14} className="mt-px shrink-0" aria-hidden="true" />
          <span className="min-w-0 wrap-anywhere">
            {asSentence(message)} {hint}
          </span>
        </p>
      ))}
      {notes.map((note) => (
        <p key={note} className="text-info flex gap-1.5 text-xs">
          <Info size={14} className="mt-px shrink-0" aria-hidden="true" />
          <span className="min-w-0 wrap-anywhere">{note}</span>
        </p>
      ))}
    </>
  );
}

export const controlClass =
  'bg-field border border-edge/60 rounded-md text-ink placeholder:text-ink-3 hover:border-edge focus:border-lamp-ink focus:outline-none focus-visible:ring-1 focus-visible:ring-lamp-ink aria-invalid:border-bad disabled:opacity-60 transition-colors';

export function TextInput({
  className,
  ...props
}: InputHTMLAttributes<HTMLInputElement> & { ref?: Ref<HTMLInputElement> }) {
  return (
    <input
      className={cx(controlClass, 'h-9 w-full min-w-0 px-2.5 text-base', className)}
      {...props}
    />
  );
}

export function TextArea({
  className,
  ...props
}: TextareaHTMLAttributes<HTMLTextAreaElement> & { ref?: Ref<HTMLTextAreaElement> }) {
  return (
    <textarea
      className={cx(
        controlClass,
        'w-full min-w-0 resize-y px-3 py-2.5 text-base leading-relaxed',
        className,
      )}
      {...props}
    />
  );
}
