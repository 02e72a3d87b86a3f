// Prompt lists of the scripted studio: checked, run, exported.
import { ApiError } from '@/api/error';
import type { BulkCheck, BulkInput } from '@/api/types';
import { MODELS } from './data';
import { MockQueue } from './queue';
import { checkList } from './read-list';
import { type Fields, FINAL, refuse } from './state';

export class MockLists extends MockQueue {
  bulk_check(input: BulkInput): BulkCheck {
    return checkList(
      input,
      (request) => this.check(request),
      (request) => this.plan(request, 0).output.stem,
      (pictures) => this.estimate(pictures, MODELS[0]!),
    );
  }
  bulk_submit(input: BulkInput) {
    const check = this.bulk_check({ ...input, rows_limit: 100_000 });
    if (check.problems[0]) throw new ApiError({ ...check.problems[0], problems: check.problems });
    return this.enqueue(
      check.rows.map((row) => ({ request: row.request, line: row.line })),
      'list',
      input.name || 'Pasted list',
    );
  }
  batches_list({ offset = 0, limit = 100 }: Fields) {
    const all = [...this.batches.values()].sort((a, b) => b.created_at - a.created_at);
    return {
      batches: all.slice(Number(offset), Number(offset) + Number(limit)),
      total: all.length,
    };
  }
  batches_get({ id }: Fields) {
    return (
      this.batches.get(String(id)) ??
      refuse('not_found', 'there is no such batch', 'Choose another one.')
    );
  }
  batches_table({ id, format = 'csv' }: Fields) {
    const gap = format === 'tsv' ? '\t' : ',';
    const rows = this.scope({ batch: id }, ['queued', 'paused', 'running', ...FINAL]).map((job) => [
      job.line,
      job.state,
      JSON.stringify(job.plan.prompt),
      job.plan.seed,
    ]);
    return {
      name: `results.${String(format)}`,
      media_type: 'text/plain',
      text: [['line', 'state', 'prompt', 'seed'], ...rows].map((row) => row.join(gap)).join('\n'),
    };
  }
  batches_contact_sheet({ id }: Fields) {
    const jobs = this.scope({ batch: id }, ['done']);
    return {
      path: '/home/ada/sheet.png',
      url: `/media/sheets/${String(id)}`,
      pictures: jobs.length,
      width: 1600,
      height: 1200,
    };
  }
}
