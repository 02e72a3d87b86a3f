// Every key, and where to read more.
import { host } from '@/api/host';
import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { Keys } from '@/components/ui/Keys';
import { SwitchRow } from '@/components/ui/Switch';
import { singleKeysStore } from '@/lib/preferences';
import { useStore } from '@/lib/store';
import type { AppAction } from './actions';

const PAGE_KEYS: { where: string; keys: [string, string][] }[] = [
  {
    where: 'Create, Video and Bulk',
    keys: [
      ['mod+enter', 'Generate, make a draft clip, or run the list'],
      ['mod+shift+enter', 'Make the clip in full'],
      ['arrowup arrowdown', 'Step a number; with Shift by ten'],
    ],
  },
  {
    where: 'Prompt',
    keys: [
      ['mod+arrowup', 'More weight on the word, for models that read weights'],
      ['mod+arrowdown', 'Less weight on the word'],
    ],
  },
  {
    where: 'Gallery',
    keys: [
      ['arrowleft arrowup arrowdown arrowright', 'Move through the pictures'],
      [' ', 'Select the picture; with Shift a range'],
      ['enter', 'Open the picture'],
      ['v', 'Make pictures move: draft clips, at once'],
      ['d', 'Make drafts full'],
      ['delete', 'Move to the trash'],
      ['mod+a', 'Select everything that is loaded'],
      ['escape', 'Clear the selection'],
    ],
  },
  {
    where: 'Picture',
    keys: [
      ['arrowleft arrowright', 'Previous and next picture'],
      ['z', 'Fit, or one to one'],
      ['u', 'Use its settings'],
      ['v', 'Make it move: a draft clip, at once'],
      ['d', 'Make the draft full'],
      ['delete', 'Move to the trash'],
    ],
  },
  {
    where: 'Video',
    keys: [
      [' ', 'Play and pause'],
      [', .', 'One frame back, and on'],
      ['home end', 'To the first frame, and to the last'],
      ['< >', 'Slower, and faster'],
      ['l', 'Loop'],
      ['m', 'Sound'],
      ['f', 'Full screen'],
    ],
  },
  {
    where: 'Mask',
    keys: [
      ['[ ]', 'A smaller brush, and a larger one'],
      ['arrowleft arrowup arrowdown arrowright', 'Move the brush; with Shift further'],
      [' ', 'Put the brush down'],
      ['mod+z', 'Undo'],
    ],
  },
  {
    where: 'Queue',
    keys: [['alt+arrowup', 'Move a waiting job up; with ↓ down']],
  },
];

function Row({ chord, label }: { chord: string; label: string }) {
  return (
    <div className="flex min-h-8 items-center justify-between gap-4 py-0.5">
      <dt className="text-ink-2 leading-snug">{label}</dt>
      <dd className="flex shrink-0 gap-1">
        {chord.split(/(?<=.) (?=.)/).map((key, index) => (
          <Keys key={`${key}${index}`} chord={key} />
        ))}
      </dd>
    </div>
  );
}

export function Help({
  isOpen,
  onOpen,
  actions,
}: {
  isOpen: boolean;
  onOpen(isOpen: boolean): void;
  actions: AppAction[];
}) {
  const hasSingleKeys = useStore(singleKeysStore);
  return (
    <Dialog
      isOpen={isOpen}
      onOpen={onOpen}
      title="Keyboard and help"
      className="!max-w-3xl"
      description="Drop a picture anywhere to get its settings back or to start from it, or a list to run it."
    >
      <div className="grid gap-x-10 gap-y-5 text-sm sm:grid-cols-2">
        <section>
          <h3 className="mb-1 font-semibold">Everywhere</h3>
          <dl>
            {actions
              .filter((action) => action.chord)
              .map((action) => (
                <Row key={action.id} chord={action.chord!} label={action.label} />
              ))}
          </dl>
        </section>
        <div className="flex flex-col gap-5">
          {PAGE_KEYS.map(({ where, keys }) => (
            <section key={where}>
              <h3 className="mb-1 font-semibold">{where}</h3>
              <dl>
                {keys.map(([chord, label]) => (
                  <Row key={label} chord={chord} label={label} />
                ))}
              </dl>
            </section>
          ))}
        </div>
      </div>
      <div className="border-line mt-5 flex flex-col gap-4 border-t pt-4">
        <SwitchRow
          label="Keys without Ctrl are shortcuts"
          hint="Switch off if they get in the way of dictation or other tools."
          isOn={hasSingleKeys}
          onChange={(isOn) => singleKeysStore.set(isOn)}
        />
        <div>
          <Button size="sm" onClick={() => void host.openExternal(host.pageUrl('/docs'))}>
            Documentation of the API
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
