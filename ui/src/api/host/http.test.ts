import { afterEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '@/api/error';
import { backoff, httpHost } from './http';

const answer = (status: number, body: unknown) =>
  vi.fn(async () => new Response(JSON.stringify(body), { status }));

afterEach(() => vi.unstubAllGlobals());

describe('commands over HTTP', () => {
  it('put members into the path, the query and the body', async () => {
    const fetch = answer(200, {});
    vi.stubGlobal('fetch', fetch);
    await httpHost.call('jobs_move', { id: 'a b', before: null });
    await httpHost.call('jobs_list', { states: ['queued', 'paused'], offset: 60, session: null });
    const calls = fetch.mock.calls as unknown as [string, RequestInit][];
    expect(calls[0]![0]).toBe('/api/jobs/a%20b/move');
    expect(calls[0]![1]).toMatchObject({ method: 'POST', body: '{"before":null}' });
    expect(calls[1]![0]).toBe('/api/jobs?states=queued&states=paused&offset=60');
    expect(calls[1]![1].body).toBeUndefined();
  });

  it('reject with everything that is wrong', async () => {
    const problem = { code: 'invalid_input', message: 'no', hint: 'do', field: 'steps' };
    vi.stubGlobal('fetch', answer(422, { ...problem, problems: [problem, problem] }));
    const error = await httpHost.call('jobs_submit', {}).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).problems).toHaveLength(2);
  });

  it('hand a picture in as raw bytes', async () => {
    const kept = { reference: 'input:ab', width: 4, height: 3, bytes: 5 };
    const fetch = answer(200, kept);
    vi.stubGlobal('fetch', fetch);
    const file = new File(['bytes'], 'a.png');
    expect(await httpHost.keepInput(file)).toEqual(kept);
    const [[url, init]] = fetch.mock.calls as unknown as [[string, RequestInit]];
    expect(url).toBe('/api/inputs');
    expect(init).toMatchObject({ method: 'POST', body: file });
  });

  it('say that nobody answers', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('failed')));
    const error = await httpHost.call('queue_status', {}).catch((cause: unknown) => cause);
    expect((error as ApiError).code).toBe('unreachable');
  });
});

class FakeSocket {
  static all: FakeSocket[] = [];
  onopen = () => {};
  onclose = () => {};
  onmessage = (_: { data: string }) => {};
  constructor(readonly url: URL) {
    FakeSocket.all.push(this);
  }
  close(): void {
    this.onclose();
  }
}

describe('the stream of events', () => {
  it('connects again by itself and says so', () => {
    vi.useFakeTimers();
    FakeSocket.all = [];
    vi.stubGlobal('WebSocket', FakeSocket);
    vi.stubGlobal('fetch', answer(200, {}));
    const statuses: string[] = [];
    const events: unknown[] = [];
    const stop = httpHost.connect({
      onEvents: (batch) => events.push(...batch),
      onStatus: (status) => statuses.push(status),
    });
    FakeSocket.all[0]!.onopen();
    FakeSocket.all[0]!.onmessage({ data: '{"type":"models_changed"}' });
    FakeSocket.all[0]!.onmessage({ data: '{"type":"mod' });
    FakeSocket.all[0]!.onclose();
    expect(FakeSocket.all).toHaveLength(1);
    vi.advanceTimersByTime(1000);
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.all[1]!.onopen();
    stop();
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.all).toHaveLength(2);
    expect(statuses).toEqual(['open', 'lost', 'open']);
    expect(events).toEqual([{ type: 'models_changed' }, { type: 'lagged' }]);
    vi.useRealTimers();
  });

  it('waits longer each time, but never too long', () => {
    expect(backoff(0, 0.5)).toBe(300);
    expect(backoff(3, 0.5)).toBe(2400);
    expect(backoff(30, 1)).toBe(10_000);
  });
});
