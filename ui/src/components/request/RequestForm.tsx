// The frame of a form that asks for results: fields that scroll, and below them, always in sight,
// what it costs and the buttons that send it.
import type { ReactNode, Ref } from 'react';

import { Button } from '@/components/ui/Button';
import { Messages } from '@/components/ui/Field';
import { Keys } from '@/components/ui/Keys';
import { PromptField } from './PromptField';
import { PromptPreview } from './PromptPreview';
import { messagesOf } from './RequestFields';
import type { RequestForm as State } from './use-request-form';

interface RequestFormProps {
  label: string;
  form: State;
  /** What Enter does. */
  onSubmit(): void;
  /** What it would cost, once it can be sent. */
  cost: ReactNode;
  buttons: ReactNode;
  children: ReactNode;
}

export function RequestForm({ label, form, onSubmit, cost, buttons, children }: RequestFormProps) {
  return (
    <form
      aria-label={label}
      className="flex flex-col lg:min-h-0"
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit();
      }}
    >
      <div className="flex flex-1 flex-col gap-4 p-4 lg:min-h-0 lg:overflow-y-auto">{children}</div>
      <div className="border-line bg-panel sticky bottom-0 z-10 flex flex-col gap-2 border-t px-4 pt-2 pb-4 max-lg:pb-3 lg:static">
        <Messages problems={form.general} />
        <div className="flex min-h-6 flex-col justify-center gap-0.5">
          {form.obstacle ? <p className="text-ink-3 text-xs">{form.obstacle}</p> : cost}
        </div>
        <div className="flex gap-2">{buttons}</div>
      </div>
    </form>
  );
}

interface SendButtonProps {
  form: State;
  icon: ReactNode;
  /** Its keys, which it shows. */
  chord?: string;
  /** Sends the form in another way than Enter does. */
  onSend?(): void;
  children: ReactNode;
}

export function SendButton({ form, icon, chord, onSend, children }: SendButtonProps) {
  return (
    <Button
      type={onSend ? 'button' : 'submit'}
      variant={onSend ? undefined : 'primary'}
      size="lg"
      isBusy={form.isSubmitting}
      aria-disabled={form.isBlocked || undefined}
      icon={icon}
      className="flex-1"
      onClick={onSend}
    >
      {children}
      {chord && (
        <span className="hidden opacity-80 sm:inline [&_kbd]:border-current/25 [&_kbd]:bg-transparent [&_kbd]:text-current">
          <Keys chord={chord} />
        </span>
      )}
    </Button>
  );
}

/** The words of the request, and what becomes of them. */
export function PromptSection({
  form: { draft, model, change, ...about },
  empty,
  ref,
}: {
  form: State;
  /** What the empty field says where there is no example. */
  empty?: string;
  ref: Ref<HTMLTextAreaElement>;
}) {
  return (
    <>
      <PromptField
        ref={ref}
        value={draft.prompt}
        onValue={(value) => change({ prompt: value })}
        example={model?.example_prompts[0]}
        empty={empty}
        limit={model?.capabilities.prompt_chars ?? 2000}
        hasWeights={model?.capabilities.prompt_weights ?? false}
        {...messagesOf(about, 'prompt', 'expansion')}
      />
      <PromptPreview draft={draft} onChange={change} />
    </>
  );
}
