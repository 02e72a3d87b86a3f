// The list as it was understood: one row per picture request, bad cells marked.
import { useVirtualizer } from '@tanstack/react-virtual';
import { useRef } from 'react';

import { pictureUrl } from '@/api/media';
import type { BulkCheck, BulkRow, Problem, VideoOptions } from '@/api/types';
import { cx } from '@/lib/cx';
import { asTyped, formatCount } from '@/lib/format';

const ROW = 34;

type Request = BulkRow['request'];

interface Column {
  /** Members of the request that it shows, as problems name them. */
  fields: string[];
  label: string;
  isNumber?: boolean;
  /** What it shows of a row as text; empty: nothing. */
  read(request: Request): string;
  /** Pictures that it shows instead. */
  pictures?(request: Request): string[];
}

function text(value: unknown): string {
  if (typeof value === 'number') return String(asTyped(value));
  return typeof value === 'string' ? value : '';
}

/** A member that is one value. */
const plain = (key: keyof Request, label: string, isNumber?: boolean): Column => ({
  fields: [key],
  label,
  isNumber,
  read: (request) => text(request[key]),
});

/** A member that only clips have. */
const ofClip = (key: keyof VideoOptions, label: string): Column => ({
  fields: [`video.${key}`],
  label,
  isNumber: true,
  read: ({ video }) => text(video?.[key]),
});

/** A member that is on or off. */
const switched = (key: 'sound' | 'vae_tiling', label: string): Column => ({
  fields: [`video.${key}`],
  label,
  read: ({ video }) => ({ true: 'Yes', false: 'No' })[String(video?.[key])] ?? '',
});

const pictures = (fields: string[], label: string, of: (request: Request) => string[]): Column => ({
  fields,
  label,
  read: (request) => of(request).join(' '),
  pictures: of,
});

const COLUMNS: Column[] = [
  plain('negative_prompt', 'Negative'),
  pictures(['image', 'more_images'], 'Picture', ({ image, more_images = [] }) => [
    ...(image ? [image] : []),
    ...more_images.map((more) => more.image),
  ]),
  pictures(['mask'], 'Mask', ({ mask }) => (mask ? [mask] : [])),
  pictures(['video.end_image'], 'Ends with', ({ video }) =>
    video?.end_image ? [video.end_image] : [],
  ),
  {
    fields: ['strength', 'more_images'],
    label: 'Strength',
    isNumber: true,
    read: ({ strength, more_images = [] }) => {
      const all = [strength, ...more_images.map((more) => more.strength)];
      if (all.every((each) => each == null)) return '';
      return all.map((each) => text(each) || '–').join(', ');
    },
  },
  plain('model', 'Model'),
  {
    fields: ['components'],
    label: 'Parts',
    read: ({ components = {} }) =>
      Object.entries(components)
        .map(([part, file]) => `${part}=${file}`)
        .join(', '),
  },
  {
    fields: ['loras'],
    label: 'LoRA files',
    read: ({ loras = [] }) => loras.map(({ name, weight }) => `${name}:${text(weight)}`).join(', '),
  },
  plain('width', 'Width', true),
  plain('height', 'Height', true),
  ofClip('frames', 'Frames'),
  ofClip('seconds', 'Seconds'),
  ofClip('fps', 'Frames/s'),
  switched('sound', 'Sound'),
  switched('vae_tiling', 'Tiles'),
  plain('steps', 'Steps', true),
  plain('guidance', 'Guidance', true),
  plain('seed', 'Seed', true),
  plain('output_name', 'Name'),
];

/** Columns that at least one row sets. */
export function usedColumns(rows: BulkRow[]): Column[] {
  return COLUMNS.filter(({ read }) => rows.some(({ request }) => read(request) !== ''));
}

/** Whether a problem is about one of these members: `more_images[0].image` is about `more_images`. */
const isAbout = ({ field, column }: Problem, members: string[]) =>
  members.some(
    (member) =>
      column === member ||
      field === member ||
      field?.startsWith(`${member}[`) ||
      field?.startsWith(`${member}.`),
  );

export function problemsByLine(problems: Problem[]): Map<number, Problem[]> {
  const lines = new Map<number, Problem[]>();
  for (const problem of problems) {
    if (!problem.line) continue;
    lines.set(problem.line, [...(lines.get(problem.line) ?? []), problem]);
  }
  return lines;
}

export function RowsTable({ check, onJump }: { check: BulkCheck; onJump(line: number): void }) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: check.rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 12,
  });
  const columns = usedColumns(check.rows);
  const bad = problemsByLine(check.problems);
  const template = `3.5rem minmax(16rem,1fr) ${columns.map(({ isNumber }) => (isNumber ? '5.5rem' : '9rem')).join(' ')} 4.5rem`;

  return (
    <div
      ref={scroller}
      role="table"
      aria-label="Rows of the list"
      aria-rowcount={check.total_rows + 1}
      // Scrollable, so it has to be reachable by keyboard.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      className="h-full overflow-auto"
    >
      <div style={{ minWidth: `${24 + columns.length * 6}rem` }}>
        <div
          role="row"
          aria-rowindex={1}
          className="bg-panel border-line text-ink-3 sticky top-0 z-10 grid h-8 items-center border-b text-xs font-medium"
          style={{ gridTemplateColumns: template }}
        >
          <span role="columnheader" className="px-3">
            Line
          </span>
          <span role="columnheader" className="px-2">
            Prompt
          </span>
          {columns.map(({ label, isNumber }) => (
            <span key={label} role="columnheader" className={cx('px-2', isNumber && 'text-right')}>
              {label}
            </span>
          ))}
          <span role="columnheader" className="px-3 text-right">
            Pictures
          </span>
        </div>
        <div role="rowgroup" style={{ height: rows.getTotalSize(), position: 'relative' }}>
          {rows.getVirtualItems().map((virtual) => {
            const row = check.rows[virtual.index]!;
            const problems = bad.get(row.line);
            const isBad = (...members: string[]) =>
              problems?.some((problem) => isAbout(problem, members));
            return (
              <div
                key={virtual.key}
                role="row"
                aria-rowindex={virtual.index + 2}
                className={cx(
                  'border-line/60 absolute inset-x-0 grid items-center border-b text-sm',
                  problems && 'bg-bad-wash',
                )}
                style={{
                  gridTemplateColumns: template,
                  height: ROW,
                  transform: `translateY(${virtual.start}px)`,
                }}
              >
                <span role="cell" className="px-1.5">
                  <button
                    type="button"
                    onClick={() => onJump(row.line)}
                    aria-label={`Jump to line ${row.line}`}
                    className={cx(
                      'tnum hover:bg-hover rounded-sm px-1.5 py-0.5 text-xs',
                      problems ? 'text-bad font-semibold' : 'text-ink-3',
                    )}
                  >
                    {row.line}
                  </button>
                </span>
                <span
                  role="cell"
                  title={row.request.prompt}
                  className={cx('truncate px-2', isBad('prompt') && 'text-bad')}
                >
                  {row.request.prompt || '–'}
                </span>
                {columns.map(({ label, fields, isNumber, read, pictures: given }) => (
                  <span
                    key={label}
                    role="cell"
                    title={given ? undefined : read(row.request)}
                    className={cx(
                      'text-ink-2 truncate px-2',
                      isNumber && 'tnum text-right',
                      isBad(...fields) && 'text-bad font-semibold',
                    )}
                  >
                    {given ? (
                      <Pictures
                        references={given(row.request)}
                        label={label}
                        isBad={isBad(...fields)}
                      />
                    ) : (
                      read(row.request)
                    )}
                  </span>
                ))}
                <span role="cell" className="tnum text-ink-2 px-3 text-right">
                  {row.pictures}
                </span>
              </div>
            );
          })}
        </div>
        {check.total_rows > check.rows.length && (
          <p className="text-ink-3 px-3 py-2 text-xs">
            and {formatCount(check.total_rows - check.rows.length)} more rows, checked as well
          </p>
        )}
      </div>
    </div>
  );
}

/** Pictures that a row shows; more are counted. */
const SHOWN = 3;

function Pictures({
  references,
  label,
  isBad,
}: {
  references: string[];
  label: string;
  isBad: boolean | undefined;
}) {
  const more = references.length - SHOWN;
  return (
    <span className="my-0.5 flex items-center gap-1">
      {references.slice(0, SHOWN).map((reference, index) => (
        // The same picture may be given twice: only its place tells the two apart.
        <img
          key={index}
          src={pictureUrl(reference)}
          alt={index === 0 ? label : `${label} ${index + 1}`}
          className={cx('bg-canvas size-7 rounded-sm object-cover', isBad && 'ring-bad ring-2')}
        />
      ))}
      {more > 0 && <span className="tnum text-xs">+{more}</span>}
    </span>
  );
}

export function ProblemList({
  problems,
  onJump,
}: {
  problems: Problem[];
  onJump(line: number): void;
}) {
  return (
    // Scrollable, so it has to be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <ul aria-label="Problems" tabIndex={0} className="h-full overflow-y-auto p-2">
      {problems.map((problem, index) => (
        <li key={index}>
          <button
            type="button"
            onClick={() => problem.line && onJump(problem.line)}
            className="hover:bg-hover flex w-full items-baseline gap-3 rounded-md px-2 py-1.5 text-left text-sm"
          >
            <span className="text-bad tnum w-24 shrink-0 text-xs font-semibold">
              {problem.line ? `Line ${problem.line}` : 'The list'}
              {problem.column && <span className="text-ink-3 font-normal"> {problem.column}</span>}
            </span>
            <span className="min-w-0">
              {problem.message} <span className="text-ink-2">{problem.hint}</span>
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}
