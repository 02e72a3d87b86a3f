// Search or run anything: places, actions, pictures by their prompt.
import { Command } from 'cmdk';
import { Dialog } from 'radix-ui';
import { useState } from 'react';
import { useNavigate } from 'react-router';

import { thumbnailUrl } from '@/api/media';
import { useAssetWindow } from '@/api/queries';
import type { Asset } from '@/api/types';
import { Keys } from '@/components/ui/Keys';
import { useFocusReturn } from '@/components/ui/Dialog';
import { useDebounced } from '@/lib/hooks';
import { listOfIds, useOverlay } from '@/lib/overlay';
import type { AppAction } from './actions';

function Chord({ chord }: { chord: string }) {
  return (
    <span className="ml-auto flex gap-1">
      {chord.split(' ').map((key, index) => (
        <Keys key={`${key}${index}`} chord={key} />
      ))}
    </span>
  );
}

const itemClass =
  'data-[selected=true]:bg-hover flex min-h-9 cursor-default items-center gap-3 rounded-md px-3 text-base select-none';

function Pictures({ search, onDone }: { search: string; onDone(): void }) {
  const wanted = useDebounced(search.trim(), 180);
  const list = useAssetWindow({ search: wanted }, 0, 5);
  const { openAsset } = useOverlay();
  const navigate = useNavigate();
  const found = Array.from({ length: Math.min(6, list.total) }, (_, i) => list.at(i)).filter(
    (asset): asset is Asset => asset !== undefined,
  );
  if (!wanted || !found.length) return null;
  return (
    <Command.Group heading="Pictures" forceMount>
      {found.map((asset, index) => (
        <Command.Item
          key={asset.id}
          value={`picture ${asset.id}`}
          forceMount
          className={itemClass}
          onSelect={() => {
            onDone();
            openAsset(
              asset.id,
              listOfIds(
                found.map(({ id }) => id),
                index,
              ),
            );
          }}
        >
          <img
            src={thumbnailUrl(asset.id)}
            alt=""
            className="picture-ground size-7 rounded-sm object-cover"
          />
          <span className="truncate">{asset.recipe.plan.prompt}</span>
        </Command.Item>
      ))}
      <Command.Item
        value="all pictures"
        forceMount
        className={itemClass}
        onSelect={() => {
          onDone();
          void navigate(`/gallery?search=${encodeURIComponent(wanted)}`);
        }}
      >
        Search the gallery for “{wanted}”
      </Command.Item>
    </Command.Group>
  );
}

export function Palette({
  isOpen,
  onOpen,
  actions,
}: {
  isOpen: boolean;
  onOpen(isOpen: boolean): void;
  actions: AppAction[];
}) {
  const [search, setSearch] = useState('');
  const done = () => {
    onOpen(false);
    setSearch('');
  };
  const groups = ['Do', 'Go to', 'App'] as const;
  const focus = useFocusReturn();
  return (
    <Dialog.Root open={isOpen} onOpenChange={(next) => (next ? onOpen(true) : done())}>
      <Dialog.Portal>
        <Dialog.Overlay className="bg-scrim animate-appear fixed inset-0 z-50" />
        <Dialog.Content
          {...focus}
          aria-describedby={undefined}
          className="shadow-float bg-panel animate-rise fixed inset-x-3 top-[12vh] z-50 mx-auto max-w-xl overflow-hidden rounded-xl"
        >
          <Dialog.Title className="sr-only">Search or run a command</Dialog.Title>
          <Command label="Commands" loop>
            <Command.Input
              value={search}
              onValueChange={setSearch}
              placeholder="Search pictures, places and commands"
              className="border-line placeholder:text-ink-3 h-12 w-full border-b bg-transparent px-4 text-lg outline-none"
            />
            <Command.List className="[&_[cmdk-group-heading]]:text-ink-3 max-h-[52vh] overflow-y-auto p-2 [&_[cmdk-group-heading]]:px-3 [&_[cmdk-group-heading]]:py-1.5 [&_[cmdk-group-heading]]:text-xs [&_[cmdk-group-heading]]:font-medium">
              <Pictures search={search} onDone={done} />
              {groups.map((group) => (
                <Command.Group key={group} heading={group}>
                  {actions
                    .filter((action) => action.group === group && action.id !== 'palette')
                    .map((action) => (
                      <Command.Item
                        key={action.id}
                        value={`${action.label} ${action.words ?? ''}`}
                        className={itemClass}
                        onSelect={() => {
                          done();
                          action.run();
                        }}
                      >
                        {action.label}
                        {action.chord && <Chord chord={action.chord} />}
                      </Command.Item>
                    ))}
                </Command.Group>
              ))}
              <Command.Empty className="text-ink-2 py-8 text-center text-base">
                No command by that name.
              </Command.Empty>
            </Command.List>
          </Command>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
