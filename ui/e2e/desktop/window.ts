// The real desktop window, driven over WebKitWebDriver: a display, a message bus, a driver and the
// program itself, all started for one test and ended with it.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

/** The key under which WebDriver names elements. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

export interface WindowOptions {
  /** Folder of the programs under test. */
  programs: string;
  /** Empty data folder of this test. */
  data: string;
  width: number;
  height: number;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (typeof address !== 'object' || !address) throw new Error('no free port');
  return address.port;
}

/** Starts Xvfb on a display that it chooses itself and answers the display's name. */
async function startDisplay(width: number, height: number) {
  const server = spawn(
    'Xvfb',
    ['-displayfd', '3', '-screen', '0', `${width}x${height}x24`, '-nolisten', 'tcp'],
    {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    },
  );
  const pipe = server.stdio[3];
  if (!pipe || !('on' in pipe)) throw new Error('Xvfb has no pipe');
  const lines = createInterface({ input: pipe as NodeJS.ReadableStream });
  const [number] = (await once(lines, 'line')) as [string];
  return { server, display: `:${number.trim()}` };
}

/** The page in the window. */
export class DesktopWindow {
  private constructor(
    private readonly base: string,
    private readonly children: ChildProcess[],
    private readonly display: string,
  ) {}

  static async open(options: WindowOptions): Promise<DesktopWindow> {
    const { server, display } = await startDisplay(options.width, options.height);
    const port = await freePort();
    const driver = spawn(
      'dbus-run-session',
      ['--', 'WebKitWebDriver', `--port=${port}`, '--host=127.0.0.1'],
      {
        stdio: ['ignore', 'inherit', 'inherit'],
        detached: true,
        env: {
          ...process.env,
          DISPLAY: display,
          TAURI_WEBVIEW_AUTOMATION: 'true',
          KINORA_DATA_DIR: options.data,
          // What the web view remembers of another window is no part of this test.
          XDG_DATA_HOME: join(options.data, 'xdg/data'),
          XDG_CACHE_HOME: join(options.data, 'xdg/cache'),
          XDG_CONFIG_HOME: join(options.data, 'xdg/config'),
          WEBKIT_DISABLE_COMPOSITING_MODE: '1',
          NO_AT_BRIDGE: '1',
        },
      },
    );
    const origin = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(`${origin}/status`)).ok, 90_000, 'the driver to answer');
    const session = await request(`${origin}/session`, 'POST', {
      capabilities: {
        alwaysMatch: {
          'webkitgtk:browserOptions': {
            binary: join(options.programs, 'kinora-desktop'),
            args: [],
          },
        },
      },
    });
    const { sessionId } = session as { sessionId: string };
    return new DesktopWindow(`${origin}/session/${sessionId}`, [driver, server], display);
  }

  /** Runs a function body in the page and answers what it returns. */
  execute<T>(body: string, ...args: unknown[]): Promise<T> {
    return request(`${this.base}/execute/sync`, 'POST', { script: body, args }) as Promise<T>;
  }

  /** Waits until an element matches and answers its reference. */
  async find(xpath: string, timeout = 90_000): Promise<string> {
    let found: string | undefined;
    await until(
      async () => {
        const element = await request(`${this.base}/element`, 'POST', {
          using: 'xpath',
          value: xpath,
        });
        found = (element as Record<string, string>)[ELEMENT];
        return found !== undefined;
      },
      timeout,
      xpath,
    );
    return found as string;
  }

  /** Clicks what matches; again when the page drew it anew in between. */
  click(xpath: string): Promise<void> {
    return this.act(xpath, 'click', {});
  }

  /** Writes into what matches, instead of what it holds. */
  type(xpath: string, text: string): Promise<void> {
    return until(
      async () => {
        const element = `${this.base}/element/${await this.find(xpath)}`;
        const holds = () => request(`${element}/property/value`, 'GET');
        if ((await holds()) === text) return true;
        // A slow page may outlast the driver's patience: whether the keys arrived is asked.
        await request(`${element}/clear`, 'POST', {});
        await request(`${element}/value`, 'POST', { text }).catch(() => undefined);
        return (await holds()) === text;
      },
      90_000,
      `${text} in ${xpath}`,
    );
  }

  /** Presses keys one after the other, wherever the focus is. */
  async press(...keys: string[]): Promise<void> {
    const actions = keys.flatMap((value) => [
      { type: 'keyDown', value },
      { type: 'keyUp', value },
    ]);
    await request(`${this.base}/actions`, 'POST', {
      actions: [{ type: 'key', id: 'keyboard', actions }],
    });
  }

  private act(xpath: string, action: string, body: unknown): Promise<void> {
    return until(
      async () => {
        const id = await this.find(xpath);
        try {
          await request(`${this.base}/element/${id}/${action}`, 'POST', body);
        } catch (error) {
          // The driver scrolls to the nearest edge, which may lie under a bar that stays.
          const scroll = `arguments[0].scrollIntoView({ block: 'center' })`;
          await this.execute(scroll, { [ELEMENT]: id });
          throw error;
        }
        return true;
      },
      90_000,
      `${action} ${xpath}`,
    );
  }

  /** Waits until a function body answers something truthy in the page. */
  waitFor(body: string, timeout = 240_000): Promise<void> {
    return until(async () => Boolean(await this.execute(body)), timeout, body);
  }

  /** Drops a file on the window, as a file manager does. */
  async drop(file: string): Promise<void> {
    const script = join(import.meta.dirname, 'drop.py');
    await promisify(execFile)('/usr/bin/python3', [script, file], {
      env: { ...process.env, DISPLAY: this.display },
    });
  }

  /** Writes what the display shows as a PNG (the driver's own screenshot hangs without a GPU). */
  async screenshot(file: string): Promise<void> {
    await promisify(execFile)('import', ['-window', 'root', '-display', this.display, file]);
  }

  async close(): Promise<void> {
    await request(this.base, 'DELETE').catch(() => undefined);
    for (const child of this.children) {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'exit');
      try {
        // The driver leads a group: the bus and the program go with it.
        process.kill(child.spawnfile === 'dbus-run-session' ? -child.pid : child.pid, 'SIGTERM');
      } catch {
        continue; // Gone already.
      }
      await ended;
    }
  }
}

async function request(url: string, method: string, body?: unknown): Promise<unknown> {
  const answer = await fetch(url, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
  });
  const { value } = (await answer.json()) as { value: unknown };
  if (!answer.ok) throw new Error(`${method} ${url}: ${JSON.stringify(value)}`);
  return value;
}

/** Asks again, a little later each time, until the answer is yes. */
async function until(ask: () => Promise<boolean>, timeout: number, what: string): Promise<void> {
  const end = Date.now() + timeout;
  let last: unknown;
  for (let pause = 50; Date.now() < end; pause = Math.min(500, pause * 1.5)) {
    try {
      if (await ask()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  throw new Error(`waited ${timeout} ms for ${what}${last ? `: ${String(last)}` : ''}`);
}
