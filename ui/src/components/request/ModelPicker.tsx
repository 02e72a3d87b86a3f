// Choosing a model by what it is good at, not by its file name.
import { Check, ChevronsUpDown, Search } from 'lucide-react';
import { Popover } from 'radix-ui';
import { useId, useState } from 'react';

import { useModels } from '@/api/queries';
import type { Model } from '@/api/types';
import { Badge, Skeleton } from '@/components/ui/Feedback';
import { Field, type FieldMessages } from '@/components/ui/Field';
import { cx } from '@/lib/cx';
import { formatBytes } from '@/lib/format';

/** Whether every word of the search occurs in what a model says about itself. */
export function matchesModel(model: Model, search: string): boolean {
  const text =
    `${model.name} ${model.family} ${model.variant} ${model.category} ${model.description} ${model.tags.join(' ')}`.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

export function ModelState({ model }: { model: Model }) {
  if (model.fault) return <Badge tone="bad">Damaged</Badge>;
  if (!model.is_installed) return <Badge>Not installed</Badge>;
  return model.source === 'built_in' ? (
    <Badge tone="good">Built in</Badge>
  ) : (
    <Badge tone="good">Installed</Badge>
  );
}

interface ModelPickerProps extends FieldMessages {
  /** Null: the default model. */
  value: string | null;
  onValue(value: string): void;
  label?: string;
  /** Which models there are to choose from. */
  isOffered?(model: Model): boolean;
}

const anyModel = () => true;

export function ModelPicker({
  value,
  onValue,
  label = 'Model',
  isOffered = anyModel,
  ...messages
}: ModelPickerProps) {
  const { data, isPending } = useModels();
  const [isOpen, setOpen] = useState(false);
  const [search, setSearch] = useState('');
  const [active, setActive] = useState(0);
  const listId = useId();
  const models = (data?.models ?? []).filter(isOffered);
  const chosen = models.find((model) => model.id === (value ?? data?.default)) ?? models[0];
  const found = models.filter((model) => matchesModel(model, search));

  const choose = (model: Model | undefined) => {
    if (!model) return;
    onValue(model.id);
    setOpen(false);
  };

  return (
    <Field label={label} {...messages}>
      {(attributes) => (
        <Popover.Root
          open={isOpen}
          onOpenChange={(next) => {
            setOpen(next);
            setSearch('');
            setActive(
              Math.max(
                0,
                models.findIndex((model) => model.id === chosen?.id),
              ),
            );
          }}
        >
          <Popover.Trigger
            {...attributes}
            aria-labelledby={`${attributes['aria-labelledby']} ${attributes.id}`}
            className="bg-field border-edge/60 hover:border-edge aria-invalid:border-bad flex min-h-12 w-full items-center gap-3 rounded-md border px-3 py-1.5 text-left"
          >
            {isPending ? (
              <Skeleton className="h-8 flex-1" />
            ) : (
              <span className="min-w-0 flex-1">
                <span className="block truncate font-medium">
                  {chosen?.name ?? value ?? 'No model'}
                </span>
                <span className="text-ink-3 block truncate text-xs">
                  {chosen?.is_installed === false ? 'Not installed · ' : ''}
                  {chosen?.tags.join(' · ')}
                </span>
              </span>
            )}
            <ChevronsUpDown size={15} className="text-ink-3 shrink-0" aria-hidden="true" />
          </Popover.Trigger>
          <Popover.Portal>
            <Popover.Content
              align="start"
              sideOffset={5}
              collisionPadding={8}
              aria-label="Choose a model"
              className="shadow-float animate-appear bg-panel z-50 flex max-h-[min(30rem,var(--radix-popover-content-available-height))] w-[max(20rem,var(--radix-popover-trigger-width))] max-w-[94vw] flex-col rounded-lg"
            >
              <div className="border-line flex items-center gap-2 border-b px-3">
                <Search size={15} className="text-ink-3" aria-hidden="true" />
                <input
                  className="placeholder:text-ink-3 h-10 flex-1 bg-transparent text-base outline-none"
                  placeholder="Search models"
                  aria-label="Search models"
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
                      setActive((at) => Math.min(found.length - 1, Math.max(0, at + step)));
                    }
                    if (event.key === 'Enter') choose(found[active]);
                  }}
                />
              </div>
              <div
                id={listId}
                role="listbox"
                aria-label="Models"
                className="min-h-0 overflow-y-auto p-1"
              >
                {found.map((model, index) => (
                  // The search box keeps the focus and drives this list by aria-activedescendant.
                  // eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus
                  <div
                    key={model.id}
                    id={`${listId}-${index}`}
                    role="option"
                    aria-selected={model.id === chosen?.id}
                    onClick={() => choose(model)}
                    onMouseMove={() => setActive(index)}
                    className={cx(
                      'flex cursor-default gap-2.5 rounded-md px-2.5 py-2',
                      index === active && 'bg-hover',
                    )}
                  >
                    <Check
                      size={15}
                      aria-hidden="true"
                      className={cx(
                        'text-lamp-ink mt-0.5 shrink-0',
                        model.id !== chosen?.id && 'invisible',
                      )}
                    />
                    <div className="min-w-0 flex-1">
                      <div className="flex items-center gap-2">
                        <span className="font-medium">{model.name}</span>
                        <span className="ml-auto">
                          <ModelState model={model} />
                        </span>
                      </div>
                      <p className="text-ink-2 clamp-2 mt-0.5 text-xs">{model.description}</p>
                      <p className="text-ink-3 tnum mt-1 text-xs">
                        {[...model.tags, formatBytes(model.bytes)].join(' · ')}
                      </p>
                    </div>
                  </div>
                ))}
                {!found.length && (
                  <p className="text-ink-2 px-3 py-6 text-center text-sm">No model matches.</p>
                )}
              </div>
            </Popover.Content>
          </Popover.Portal>
        </Popover.Root>
      )}
    </Field>
  );
}
