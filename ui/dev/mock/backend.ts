// A studio in memory: enough behaviour to build and test pages against, none of it shipped.
import { PROMPTS } from './data';
import { inventFailure, makeAsset } from './invented';
import { MockRooms } from './rooms';
import { type Fields, type MockOptions, refuse } from './state';

export { inventFailure, makeAsset };
export { newId, type MockOptions } from './state';

export class MockBackend extends MockRooms {
  readonly calls: { name: string; input: unknown }[] = [];

  constructor(options: MockOptions = {}) {
    super(options);
    if (options.history) this.invent();
    if (options.isAutomatic) setInterval(() => this.step(), 130);
  }

  async call(name: string, input: unknown): Promise<unknown> {
    this.calls.push({ name, input });
    const command = (this as unknown as Record<string, (input: Fields) => unknown>)[name];
    if (!/^[a-z]+_[a-z_]+$/.test(name) || !command) refuse('not_found', `there is no ${name}`, '');
    await Promise.resolve();
    return structuredClone(command.call(this, structuredClone(input ?? {}) as Fields));
  }

  /** A past to look at: a batch that went through with failures, and what is running now. */
  private invent(): void {
    const list = this.enqueue(
      Array.from({ length: 24 }, (_, i) => ({
        request: { prompt: PROMPTS[i % PROMPTS.length], seed: 400 + i, session: null },
        line: i + 2,
      })),
      'list',
      'prompts.csv',
    );
    const jobs = [...this.jobs.values()].filter((job) => job.batch === list.batch);
    jobs.forEach((job, index) => {
      const at = Date.now() - 5_400_000 + index * 1200;
      if (index === 6 || index === 17) {
        Object.assign(job, {
          state: 'failed',
          epoch: 1,
          started_at: at,
          finished_at: at + 900,
          failure: inventFailure(index),
        });
        return;
      }
      const asset = this.store(job, at);
      Object.assign(job, {
        state: 'done',
        epoch: 1,
        started_at: at,
        finished_at: at + 1100,
        assets: [asset.id],
        timings: asset.recipe.timings,
      });
    });
    const kinds = [
      ['Winter cards', 'image'],
      ['Harbour studies', 'image'],
      ['spring-list.tsv', 'bulk'],
    ] as const;
    kinds.forEach(([title, kind], index) => {
      const session = this.session(null, kind, title);
      session.assets = 18 - index * 5;
      session.updated_at = session.created_at = Date.now() - (index + 1) * 86_400_000;
    });
    this.wildcards.set('colours', 'red\n2::blue\n{light|dark} green\n');
    this.wildcards.set('animals/birds', 'owl\nhen\n');
    this.recount();
    this.batches.get(list.batch)!.created_at -= 5_400_000;
  }
}
