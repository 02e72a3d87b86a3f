// Wildcards: lists of options that prompts name with <wildcard:name>.
import { Asterisk, Copy, Pencil, Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { ApiError } from '@/api/error';
import { useWildcard, useWildcards } from '@/api/queries';
import type { Problem, WildcardInfo } from '@/api/types';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Field, TextArea, TextInput } from '@/components/ui/Field';
import { Card } from '@/components/ui/Page';
import { copyText } from '@/lib/clipboard';
import { formatBytes, plural } from '@/lib/format';

export function Wildcards() {
  const { data, error, refetch } = useWildcards();
  /** The name of the list that is open; empty: a new one. */
  const [open, setOpen] = useState<string | null>(null);
  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data) return <Skeleton className="h-80" />;
  return (
    <>
      <Card
        title="Wildcards"
        aside={
          data.wildcards.length > 0 && (
            <Button
              size="sm"
              icon={<Plus size={15} aria-hidden="true" />}
              onClick={() => setOpen('')}
            >
              New list
            </Button>
          )
        }
      >
        {data.wildcards.length ? (
          <>
            <p className="text-ink-2 mb-3 text-sm">
              A prompt draws a line of a list with <code>&lt;wildcard:name&gt;</code>. The files are
              in {data.folder}; those that you put there count as well.
            </p>
            <ul aria-label="Wildcards" className="divide-line divide-y">
              {data.wildcards.map((wildcard) => (
                <Row
                  key={wildcard.name}
                  wildcard={wildcard}
                  onOpen={() => setOpen(wildcard.name)}
                />
              ))}
            </ul>
          </>
        ) : (
          <EmptyState
            className="py-8"
            icon={<Asterisk size={34} />}
            title="No lists yet"
            action={
              <Button icon={<Plus size={15} aria-hidden="true" />} onClick={() => setOpen('')}>
                New list
              </Button>
            }
          >
            A list of colours, animals or painters, one a line. A prompt draws from it with{' '}
            <code>&lt;wildcard:name&gt;</code>. Text files in {data.folder} count as well.
          </EmptyState>
        )}
      </Card>
      {open !== null && <Editor name={open} onDone={() => setOpen(null)} />}
    </>
  );
}

function Row({ wildcard, onOpen }: { wildcard: WildcardInfo; onOpen(): void }) {
  const { name, options, bytes, fault } = wildcard;
  const remove = useCommand('wildcards_remove');
  const save = useCommand('wildcards_save');
  const tag = `<wildcard:${name}>`;
  return (
    <li className="flex items-center gap-1 py-1.5">
      <div className="min-w-0 flex-1">
        <p className="truncate font-medium">{name}</p>
        <p className="text-ink-3 tnum text-sm">
          {fault ? (
            <span className="text-bad">{fault}</span>
          ) : (
            `${options === null ? '' : `${plural(options, 'option')} · `}${formatBytes(bytes)}`
          )}
        </p>
      </div>
      <IconButton
        label={`Copy ${tag}`}
        onClick={() => void copyText(tag).then(() => toast.success(`${tag} copied.`), toastError)}
      >
        <Copy size={16} aria-hidden="true" />
      </IconButton>
      <IconButton label={`Edit ${name}`} onClick={onOpen}>
        <Pencil size={16} aria-hidden="true" />
      </IconButton>
      <IconButton
        label={`Delete ${name}`}
        onClick={() =>
          remove.mutate(
            { name },
            {
              onSuccess: ({ text }) =>
                toast(`“${name}” is deleted.`, {
                  duration: 12_000,
                  ...(text && {
                    action: {
                      label: 'Undo',
                      onClick: () => save.mutate({ name, text }, { onError: toastError }),
                    },
                  }),
                }),
              onError: toastError,
            },
          )
        }
      >
        <Trash2 size={16} aria-hidden="true" />
      </IconButton>
    </li>
  );
}

function Editor({ name, onDone }: { name: string; onDone(): void }) {
  const { data, error, refetch } = useWildcard(name || null);
  return (
    <Dialog isOpen onOpen={onDone} title={name ? `Edit “${name}”` : 'New list'}>
      {error ? (
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      ) : name && !data ? (
        <Skeleton className="h-72" />
      ) : (
        <EditorForm name={name} text={data?.text ?? ''} onDone={onDone} />
      )}
    </Dialog>
  );
}

function EditorForm({ name, text, onDone }: { name: string; text: string; onDone(): void }) {
  const [draft, setDraft] = useState({ name, text });
  const [problems, setProblems] = useState<Problem[]>([]);
  const save = useCommand('wildcards_save');
  const change = (next: Partial<typeof draft>) => {
    setProblems([]);
    setDraft({ ...draft, ...next });
  };
  const of = (field: string) =>
    problems
      .filter((problem) => problem.field === field)
      .map(({ line, message, hint }) => ({
        message: line ? `Line ${line}, ${message}.` : message,
        hint,
      }));
  return (
    <form
      className="flex flex-col gap-4"
      onSubmit={(event) => {
        event.preventDefault();
        save.mutate(
          { name: draft.name.trim(), text: draft.text, only_new: !name },
          {
            onSuccess: (saved) => {
              onDone();
              toast.success(`“${saved.name}” has ${plural(saved.options ?? 0, 'option')}.`);
            },
            onError: (refusal) => {
              if (refusal instanceof ApiError && refusal.problems.some(({ field }) => field)) {
                setProblems(refusal.problems);
              } else toastError(refusal);
            },
          },
        );
      }}
    >
      {!name && (
        <Field
          label="Name"
          hint="As prompts call it: colours, or animals/birds for a list in a folder."
          problems={of('name')}
        >
          {(attributes) => (
            <TextInput
              {...attributes}
              autoComplete="off"
              spellCheck={false}
              data-autofocus
              value={draft.name}
              onChange={(event) => change({ name: event.target.value })}
            />
          )}
        </Field>
      )}
      <Field
        label="Options"
        hint="One a line. 2:: before a line draws it twice as often, # begins a comment. Lines may hold choices and other wildcards."
        problems={of('text')}
      >
        {(attributes) => (
          <TextArea
            {...attributes}
            rows={12}
            className="font-mono text-sm"
            spellCheck={false}
            placeholder={'red\n2::blue\n{light|dark} green'}
            {...(name && { 'data-autofocus': true })}
            value={draft.text}
            onChange={(event) => change({ text: event.target.value })}
          />
        )}
      </Field>
      <div className="flex justify-end gap-2">
        <Button onClick={onDone}>Cancel</Button>
        <Button
          type="submit"
          variant="primary"
          isBusy={save.isPending}
          disabled={!draft.name.trim() || !draft.text.trim()}
        >
          Save
        </Button>
      </div>
    </form>
  );
}
