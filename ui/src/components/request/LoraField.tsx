// Adapter files of a request: found in a list, weighted, and checked against the model at once.
import { CircleCheck, Plus, Search, X } from 'lucide-react';
import { Popover } from 'radix-ui';
import { useId, useState } from 'react';

import { toApiError } from '@/api/error';
import { useLoraCheck, useLoras } from '@/api/queries';
import type { LoraCheck, LoraInfo } from '@/api/types';
import { Button, IconButton } from '@/components/ui/Button';
import { Messages } from '@/components/ui/Field';
import { Segmented } from '@/components/ui/Segmented';
import { SliderField } from '@/components/ui/Slider';
import { cx } from '@/lib/cx';
import type { DraftLora, Expert } from '@/lib/draft';
import { formatBytes, formatCount, plural } from '@/lib/format';
import { messagesOf, type RequestFieldsProps } from './RequestFields';

const LIMIT = 2;

const EXPERTS: { value: Expert | 'both'; label: string }[] = [
  { value: 'both', label: 'Both networks' },
  { value: 'high', label: 'High noise' },
  { value: 'low', label: 'Low noise' },
];

/** What a file is, in a few words. */
const describe = ({ base, ranks }: Pick<LoraInfo, 'base' | 'ranks'>): string[] => [
  ...(ranks.length ? [`rank ${ranks.join(', ')}`] : []),
  ...(base ? [`for ${base}`] : []),
];

export function LoraField({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const id = useId();
  const { loras } = draft;
  if (!model.capabilities.loras) return null;
  const hasExperts = model.capabilities.video?.experts ?? false;
  const change = (index: number, changes: Partial<DraftLora>) =>
    onChange({
      loras: loras.map((lora, at) => (at === index ? { ...lora, ...changes } : lora)),
    });
  return (
    <div role="group" aria-labelledby={id} className="flex min-w-0 flex-col gap-2">
      <div className="flex min-h-8 items-center justify-between gap-2">
        <span id={id} className="text-ink-2 text-sm font-medium">
          LoRA files
        </span>
        <LoraPicker
          taken={loras.map(({ name }) => name)}
          onAdd={({ name, expert }) =>
            onChange({
              // Of a pair, each file's name tells the network that it was made for.
              loras: [...loras, { name, weight: 1, ...(hasExperts && expert && { expert }) }],
            })
          }
        />
      </div>
      {loras.length > 0 && (
        <ul className="flex flex-col gap-2">
          {loras.map((lora, index) => (
            <li key={lora.name}>
              <LoraRow
                lora={lora}
                model={model.id}
                messages={messagesOf(
                  about,
                  `loras[${index}]`,
                  `loras[${index}].name`,
                  `loras[${index}].weight`,
                  `loras[${index}].expert`,
                )}
                hasExperts={hasExperts}
                onChange={(changes) => change(index, changes)}
                onRemove={() => onChange({ loras: loras.filter((_, at) => at !== index) })}
              />
            </li>
          ))}
        </ul>
      )}
      <Messages {...messagesOf(about, 'loras')} />
    </div>
  );
}

function LoraRow({
  lora,
  model,
  messages,
  hasExperts,
  onChange,
  onRemove,
}: {
  lora: DraftLora;
  model: string;
  messages: ReturnType<typeof messagesOf>;
  hasExperts: boolean;
  onChange(changes: Partial<DraftLora>): void;
  onRemove(): void;
}) {
  return (
    <div
      role="group"
      aria-label={lora.name}
      className="border-line flex flex-col gap-1 rounded-md border px-2.5 pt-1 pb-2"
    >
      <div className="flex items-center gap-2">
        <span className="min-w-0 flex-1 truncate text-sm font-medium" title={lora.name}>
          {lora.name}
        </span>
        <IconButton size="sm" label={`Remove ${lora.name}`} className="-mr-1.5" onClick={onRemove}>
          <X size={15} aria-hidden="true" />
        </IconButton>
      </div>
      <SliderField
        label="Weight"
        value={lora.weight === 1 ? null : lora.weight}
        fallback={1}
        min={-LIMIT}
        max={LIMIT}
        step={0.05}
        onValue={(weight) => onChange({ weight: weight ?? 1 })}
      />
      {hasExperts && (
        <Segmented
          label={`Network that ${lora.name} changes`}
          className="self-start"
          value={lora.expert ?? 'both'}
          options={EXPERTS}
          onValue={(expert) => onChange({ expert: expert === 'both' ? undefined : expert })}
        />
      )}
      <Report model={model} name={lora.name} hasProblems={Boolean(messages.problems?.length)} />
      <Messages {...messages} />
    </div>
  );
}

/** What of the file fits the model. */
function Report({
  model,
  name,
  hasProblems,
}: {
  model: string;
  name: string;
  hasProblems: boolean;
}) {
  const { data, error } = useLoraCheck(model, name);
  if (error) {
    // The check of the request says the same where it has come.
    return hasProblems ? null : <Messages problems={[toApiError(error)]} />;
  }
  if (!data) return <p className="text-ink-3 text-xs">Looking into the file…</p>;
  return (
    <>
      <p className="text-ink-3 tnum flex items-center gap-1.5 text-xs">
        {data.unmatched_count === 0 && (
          <CircleCheck size={13} className="text-good shrink-0" aria-hidden="true" />
        )}
        {[
          `${formatCount(data.applied)} of ${formatCount(data.tensors)} tensors applied`,
          ...describe(data),
        ].join(' · ')}
      </p>
      <Messages notes={unmatchedNote(data)} />
    </>
  );
}

function unmatchedNote({ unmatched, unmatched_count }: LoraCheck): string[] {
  if (unmatched_count === 0) return [];
  const first = unmatched[0];
  return [
    `${plural(unmatched_count, 'tensor')} left out${first ? `: ${first.key}, ${first.reason}` : ''}.`,
  ];
}

function LoraPicker({ taken, onAdd }: { taken: string[]; onAdd(lora: LoraInfo): void }) {
  const [isOpen, setOpen] = useState(false);
  const [search, setSearch] = useState('');
  const [active, setActive] = useState(0);
  const listId = useId();
  const { data, error } = useLoras(isOpen);
  const words = search.toLowerCase().split(/\s+/);
  const found = (data?.loras ?? []).filter(
    ({ name }) => !taken.includes(name) && words.every((word) => name.toLowerCase().includes(word)),
  );

  const choose = (lora: LoraInfo | undefined) => {
    if (!lora || lora.fault) return;
    onAdd(lora);
    setOpen(false);
  };

  return (
    <Popover.Root
      open={isOpen}
      onOpenChange={(next) => {
        setOpen(next);
        setSearch('');
        setActive(0);
      }}
    >
      <Popover.Trigger asChild>
        <Button size="sm" icon={<Plus size={14} aria-hidden="true" />}>
          Add a LoRA
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="end"
          sideOffset={5}
          collisionPadding={8}
          aria-label="Choose a LoRA file"
          className="shadow-float animate-appear bg-panel z-50 flex max-h-[min(26rem,var(--radix-popover-content-available-height))] w-[22rem] max-w-[94vw] flex-col rounded-lg"
        >
          <div className="border-line flex items-center gap-2 border-b px-3">
            <Search size={15} className="text-ink-3" aria-hidden="true" />
            <input
              className="placeholder:text-ink-3 h-10 flex-1 bg-transparent text-base outline-none"
              placeholder="Search LoRA files"
              aria-label="Search LoRA files"
              role="combobox"
              aria-expanded="true"
              aria-controls={listId}
              aria-activedescendant={found[active] ? `${listId}-${active}` : undefined}
              value={search}
              onChange={(event) => {
                setSearch(event.target.value);
                setActive(0);
              }}
              onKeyDown={(event) => {
                if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
                  event.preventDefault();
                  const step = event.key === 'ArrowDown' ? 1 : -1;
                  setActive((at) => Math.max(0, Math.min(found.length - 1, at + step)));
                }
                if (event.key === 'Enter') {
                  event.preventDefault();
                  choose(found[active]);
                }
              }}
            />
          </div>
          <div
            id={listId}
            role="listbox"
            aria-label="LoRA files"
            className="min-h-0 overflow-y-auto p-1"
          >
            {found.map((lora, index) => (
              // The search box keeps the focus and drives this list by aria-activedescendant.
              // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
              <div
                key={lora.name}
                id={`${listId}-${index}`}
                role="option"
                aria-selected={index === active}
                aria-disabled={lora.fault !== null || undefined}
                onClick={() => choose(lora)}
                onMouseMove={() => setActive(index)}
                className={cx(
                  'cursor-default rounded-md px-2.5 py-1.5',
                  index === active && 'bg-hover',
                )}
              >
                <p className={cx('truncate text-sm font-medium', lora.fault && 'text-ink-3')}>
                  {lora.name}
                </p>
                {lora.fault ? (
                  <p className="text-bad text-xs">Cannot be used: {lora.fault}</p>
                ) : (
                  <p className="text-ink-3 tnum text-xs">
                    {[formatBytes(lora.bytes), ...describe(lora)].join(' · ')}
                  </p>
                )}
              </div>
            ))}
          </div>
          {error ? (
            <div className="px-3 pb-3">
              <Messages problems={[toApiError(error)]} />
            </div>
          ) : (
            data &&
            !found.length && (
              <p className="text-ink-2 px-4 pt-1 pb-5 text-center text-sm">
                {data.loras.length ? (
                  'No other file matches.'
                ) : (
                  <>
                    There are none yet. Put .safetensors files into{' '}
                    <span className="font-mono text-xs break-all">{data.folder}</span>
                  </>
                )}
              </p>
            )
          )}
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
