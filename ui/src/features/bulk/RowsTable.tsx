// The list as it was understood: one row per picture request, bad cells marked.
import { useVirtualizer } from '@tanstack/react-virtual';
import { useRef } from 'react';

import { pictureUrl } from '@/api/media';
import type { BulkCheck, BulkRow, Problem } from '@/api/types';
import { cx } from '@/lib/cx';
import { formatCount } from '@/lib/format';

const ROW = 34;

type Column = { key: keyof BulkRow['request']; label: string; isNumber?: boolean };

const COLUMNS: Column[] = [
  { key: 'negative_prompt', label: 'Negative' },
  { key: 'image', label: 'Picture' },
  { key: 'model', label: 'Model' },
  { key: 'width', label: 'Width', isNumber: true },
  { key: 'height', label: 'Height', isNumber: true },
  { key: 'steps', label: 'Steps', isNumber: true },
  { key: 'guidance', label: 'Guidance', isNumber: true },
  { key: 'seed', label: 'Seed', isNumber: true },
  { key: 'output_name', label: 'Name' },
];

/** Columns that at least one row sets. */
export function usedColumns(rows: BulkRow[]): Column[] {
  return COLUMNS.filter(({ key }) =>
    rows.some((row) => row.request[key] != null && row.request[key] !== ''),
  );
}

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
          {columns.map(({ key, label, isNumber }) => (
            <span key={key} role="columnheader" className={cx('px-2', isNumber && 'text-right')}>
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
            const isBad = (key: string) =>
              problems?.some((problem) => problem.field === key || problem.column === key);
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
                {columns.map(({ key, isNumber }) => (
                  <span
                    key={key}
                    role="cell"
                    className={cx(
                      'text-ink-2 truncate px-2',
                      isNumber && 'tnum text-right',
                      isBad(key) && 'text-bad font-semibold',
                    )}
                  >
                    {key === 'image' && row.request.image ? (
                      <img
                        src={pictureUrl(row.request.image)}
                        alt="What it starts from"
                        className="bg-canvas my-0.5 size-7 rounded-sm object-cover"
                      />
                    ) : (
                      String(row.request[key] ?? '')
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
