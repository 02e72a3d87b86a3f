// The prompt, with an example while it is empty and everything asked before at hand.
import { History, X } from 'lucide-react';
import { Popover } from 'radix-ui';
import { useState, type Ref } from 'react';

import { PromptArea } from '@/components/request/PromptArea';
import { IconButton } from '@/components/ui/Button';
import { Field, TextInput, type FieldMessages } from '@/components/ui/Field';
import { promptHistory } from '@/lib/draft';
import { useStore } from '@/lib/store';

interface PromptFieldProps extends FieldMessages {
  value: string;
  onValue(value: string): void;
  example: string | undefined;
  /** What the empty field says where there is no example. */
  empty?: string;
  limit: number;
  hasWeights: boolean;
  ref: Ref<HTMLTextAreaElement>;
}

export function PromptField({
  value,
  onValue,
  example,
  empty = 'What to paint',
  limit,
  hasWeights,
  ref,
  ...messages
}: PromptFieldProps) {
  const length = [...value].length;
  return (
    <Field
      label="Prompt"
      {...messages}
      aside={
        <span className="flex items-center gap-1">
          {length > limit * 0.8 && (
            <span className={`tnum text-xs ${length > limit ? 'text-bad' : 'text-ink-3'}`}>
              {length} / {limit}
            </span>
          )}
          <PromptHistory onChoose={onValue} />
        </span>
      }
    >
      {(attributes) => (
        <PromptArea
          {...attributes}
          ref={ref}
          hasWeights={hasWeights}
          rows={4}
          className="min-h-28"
          placeholder={example ? `Such as: ${example}` : empty}
          value={value}
          onValue={onValue}
        />
      )}
    </Field>
  );
}

function PromptHistory({ onChoose }: { onChoose(prompt: string): void }) {
  const prompts = useStore(promptHistory);
  const [isOpen, setOpen] = useState(false);
  const [search, setSearch] = useState('');
  const found = prompts.filter((prompt) => prompt.toLowerCase().includes(search.toLowerCase()));
  return (
    <Popover.Root open={isOpen} onOpenChange={setOpen}>
      <Popover.Trigger asChild>
        <button
          type="button"
          className="text-ink-3 hover:bg-hover hover:text-ink -my-1 flex h-6 items-center gap-1 rounded-sm px-1.5 text-xs"
        >
          <History size={13} aria-hidden="true" />
          History
        </button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="end"
          sideOffset={5}
          collisionPadding={8}
          aria-label="Earlier prompts"
          className="shadow-float animate-appear bg-panel z-50 flex max-h-96 w-[26rem] max-w-[94vw] flex-col rounded-lg p-2"
        >
          {prompts.length > 6 && (
            <TextInput
              aria-label="Search earlier prompts"
              placeholder="Search earlier prompts"
              value={search}
              onChange={(event) => setSearch(event.target.value)}
              className="mb-2"
            />
          )}
          <ul className="min-h-0 overflow-y-auto">
            {found.map((prompt) => (
              <li key={prompt} className="group flex items-start gap-1">
                <button
                  type="button"
                  className="hover:bg-hover min-w-0 flex-1 rounded-md px-2 py-1.5 text-left text-sm"
                  onClick={() => {
                    onChoose(prompt);
                    setOpen(false);
                  }}
                >
                  <span className="clamp-2">{prompt}</span>
                </button>
                <IconButton
                  size="sm"
                  label="Forget this prompt"
                  onClick={() => promptHistory.set((now) => now.filter((item) => item !== prompt))}
                >
                  <X size={14} aria-hidden="true" />
                </IconButton>
              </li>
            ))}
          </ul>
          {!found.length && (
            <p className="text-ink-2 px-2 py-5 text-center text-sm">
              {prompts.length
                ? 'No earlier prompt has these words.'
                : 'Prompts that you run are kept here.'}
            </p>
          )}
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
