// A studio of its own for each test: an empty data folder, a free port, `kinora serve`.
import { test as base, expect, type Page } from '@playwright/test';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');

function findProgram(): string {
  const given = process.env.KINORA_E2E_PROGRAM;
  if (given) return given;
  const built = ['release', 'debug'].map((profile) => join(root, 'target', profile, 'kinora'));
  const found = built.find(existsSync);
  if (!found) throw new Error(`Build kinora first: neither ${built.join(' nor ')} exists.`);
  return found;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export class Studio {
  private process: ChildProcess | undefined;
  private output = '';
  readonly folder = mkdtempSync(join(tmpdir(), 'kinora-e2e-'));

  private constructor(readonly port: number) {}

  static async open(): Promise<Studio> {
    // Between finding a free port and taking it another program may: then it is another one.
    for (let tries = 0; ; tries += 1) {
      const studio = new Studio(await freePort());
      try {
        await studio.start();
        return studio;
      } catch (error) {
        await studio.close();
        if (tries === 2) throw error;
      }
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const engine = process.env.KINORA_E2E_ENGINE;
    const child = spawn(findProgram(), ['serve'], {
      cwd: root,
      detached: true,
      env: {
        ...process.env,
        KINORA_DATA_DIR: this.folder,
        KINORA_OUTPUTS_DIR: join(this.folder, 'outputs'),
        KINORA_HOST: '127.0.0.1',
        KINORA_PORT: String(this.port),
        ...(engine ? { PATH: `${engine}${delimiter}${process.env.PATH}` } : {}),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process = child;
    const collect = (chunk: Buffer) => {
      this.output = (this.output + chunk.toString()).slice(-8000);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    await expect
      .poll(
        async () => {
          if (child.exitCode !== null) throw new Error(`kinora ended:\n${this.output}`);
          return fetch(`${this.url}/healthz`).then(
            (answer) => answer.ok,
            () => false,
          );
        },
        { timeout: 150_000, intervals: [50, 100, 200] },
      )
      .toBe(true);
  }

  /** Ends the server: politely, or as a power cut would. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (!child || child.exitCode !== null || child.pid === undefined) return;
    const ended = once(child, 'exit');
    // The engine is in the same process group; a power cut takes both.
    if (signal === 'SIGKILL') process.kill(-child.pid, signal);
    else child.kill(signal);
    await ended;
  }

  async close(): Promise<void> {
    await this.stop('SIGKILL');
    // The engine may be in the middle of a write while it goes.
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }

  /** Asks the API directly, to set a scene or to count what is there. */
  async ask<T>(method: 'GET' | 'POST' | 'PATCH', path: string, body?: unknown): Promise<T> {
    const answer = await fetch(this.url + path, {
      method,
      headers: { 'Content-Type': 'application/json', Origin: this.url },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text) as T;
  }

  /** A file that the server hands out. */
  async read(path: string): Promise<Uint8Array> {
    const answer = await fetch(this.url + path);
    if (!answer.ok) throw new Error(`GET ${path}: ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }

  /** Waits until the queue has nothing to do. */
  async rest(): Promise<void> {
    await expect
      .poll(
        async () => {
          const { counts } = await this.ask<{ counts: Record<string, number> }>(
            'GET',
            '/api/queue',
          );
          return (counts.queued ?? 0) + (counts.running ?? 0);
        },
        { timeout: 300_000, intervals: [200, 500] },
      )
      .toBe(0);
  }
}

export const test = base.extend<{ studio: Studio }>({
  // eslint-disable-next-line no-empty-pattern
  studio: async ({}, use) => {
    const studio = await Studio.open();
    try {
      await use(studio);
    } finally {
      await studio.close();
    }
  },
});

export async function go(page: Page, studio: Studio, path: string): Promise<void> {
  await page.goto(`${studio.url}/#${path}`);
  await expect(page.getByRole('main')).toBeVisible();
}

/** A picture that the page shows is one that was decoded, not a broken one. */
export async function expectDecoded(page: Page, name: string | RegExp): Promise<void> {
  const picture = page.getByRole('img', { name }).first();
  await expect(picture).toBeVisible();
  await expect
    .poll(() => picture.evaluate((image) => (image as HTMLImageElement).naturalWidth))
    .toBeGreaterThan(0);
}

export { expect };
