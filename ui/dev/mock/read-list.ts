// Reads a list much as the real one does; its rules are the server's business, not this file's.
import type { BulkCheck, BulkInput, BulkRow, Problem, RequestInput } from '@/api/types';
import type { Fields } from './state';

const NUMBERS = ['seed', 'width', 'height', 'steps', 'guidance', 'copies'];
const KNOWN = [
  'prompt',
  'negative_prompt',
  'negative',
  'model',
  'output',
  'output_name',
  ...NUMBERS,
];

export function checkList(
  input: BulkInput,
  check: (request: RequestInput) => { problems: Problem[] },
  output: (request: RequestInput) => string,
  estimate: (pictures: number) => BulkCheck['estimate'],
): BulkCheck {
  const lines = input.text.split(/\r?\n/);
  const first = lines.find((line) => line.trim() && !line.startsWith('#')) ?? '';
  const format =
    input.format ??
    (first.startsWith('{')
      ? 'jsonl'
      : first.includes('\t')
        ? 'tsv'
        : /(^|,)\s*prompt\s*(,|$)/i.test(first)
          ? 'csv'
          : 'lines');
  const rows: BulkRow[] = [];
  const problems: Problem[] = [];
  let columns: string[] | undefined = format === 'lines' ? ['prompt'] : undefined;
  lines.forEach((line, index) => {
    if (!line.trim() || line.startsWith('#')) return;
    const number = index + 1;
    const request: Fields = { ...input.defaults };
    if (format === 'lines') request.prompt = line.trim();
    else if (format === 'jsonl') {
      try {
        Object.assign(request, JSON.parse(line));
        columns = [...new Set([...(columns ?? []), ...Object.keys(request)])];
      } catch {
        problems.push({
          code: 'invalid_input',
          message: 'This line is not JSON.',
          hint: 'Write one object per line.',
          line: number,
        });
        return;
      }
    } else {
      const cells = splitLine(line, format === 'tsv' ? '\t' : ',');
      if (!columns) {
        columns = cells.map((cell) => cell.trim());
        return;
      }
      const values: Record<string, string> = {};
      columns.forEach((column, at) => {
        const cell = (cells[at] ?? '').trim();
        if (!cell) return;
        if (NUMBERS.includes(column)) {
          if (Number.isNaN(Number(cell)))
            problems.push({
              code: 'invalid_input',
              message: `“${cell}” is not a number.`,
              hint: `Write a whole number for ${column}, or leave the cell empty.`,
              line: number,
              column,
              field: column,
            });
          else request[column] = Number(cell);
        } else if (KNOWN.includes(column))
          request[column === 'negative' ? 'negative_prompt' : column] = cell;
        else values[column] = cell;
      });
      request.prompt = String(request.prompt ?? '').replace(
        /\{(\w+)\}/g,
        (all, key: string) => values[key] ?? all,
      );
    }
    for (const problem of check(request as RequestInput).problems) {
      if (problems.some((other) => other.line === number && other.field === problem.field))
        continue;
      problems.push({ ...problem, line: number, column: problem.field });
    }
    rows.push({
      line: number,
      request: request as unknown as BulkRow['request'],
      pictures: Number(request.copies ?? 1) || 1,
      output: output(request as RequestInput),
    });
  });
  const pictures = rows.reduce((sum, row) => sum + row.pictures, 0);
  return {
    format,
    columns: columns ?? [],
    rows: rows.slice(0, input.rows_limit ?? 1000),
    total_rows: rows.length,
    problems,
    notes: [],
    pictures,
    estimate: problems.length || !rows.length ? null : estimate(pictures),
  };
}

function splitLine(line: string, gap: string): string[] {
  const cells: string[] = [];
  let cell = '';
  let isQuoted = false;
  for (let i = 0; i < line.length; i += 1) {
    const char = line[i]!;
    if (char === '"') {
      if (isQuoted && line[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else isQuoted = !isQuoted;
    } else if (char === gap && !isQuoted) {
      cells.push(cell);
      cell = '';
    } else cell += char;
  }
  cells.push(cell);
  return cells;
}
