// The host in a browser: the command table as REST, events over one WebSocket, the token in a
// cookie that the pairing link has set.
import { ApiError, isProblems, unreachable } from '@/api/error';
import { toHttpRequest, type CommandName, type Input } from '@/api/generated/commands';
import type { Event } from '@/api/types';
import type { FileDrop, Host, HostListener, KeptInput } from './types';

async function readAnswer(response: Response): Promise<unknown> {
  const text = await response.text();
  let body: unknown = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    // Not ours: a proxy's page, or a cut answer.
  }
  if (response.ok) return body;
  if (isProblems(body)) throw new ApiError(body);
  throw unreachable(`HTTP ${response.status}`);
}

async function send(url: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: 'same-origin', ...init });
  } catch {
    throw unreachable();
  }
  return readAnswer(response);
}

/** How long to wait before the next attempt to connect: doubles up to 8 s, with some jitter. */
export function backoff(attempt: number, random = Math.random()): number {
  return Math.min(8000, 300 * 2 ** attempt) * (0.75 + random / 2);
}

function connect(listener: HostListener): () => void {
  let socket: WebSocket | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempt = 0;
  let isEnded = false;

  const retry = () => {
    if (isEnded) return;
    clearTimeout(timer);
    timer = setTimeout(open, backoff(attempt));
    attempt += 1;
  };
  const retryNow = () => {
    if (isEnded || socket) return;
    clearTimeout(timer);
    open();
  };
  function open() {
    const url = new URL('/ws', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    socket = new WebSocket(url);
    socket.onopen = () => {
      attempt = 0;
      listener.onStatus('open');
    };
    socket.onmessage = (message) => {
      try {
        listener.onEvents([JSON.parse(String(message.data)) as Event]);
      } catch {
        listener.onEvents([{ type: 'lagged' }]); // A cut line: read everything again.
      }
    };
    socket.onclose = () => {
      socket = undefined;
      if (isEnded) return;
      listener.onStatus('lost');
      // A refused handshake tells no reason; one ordinary request does.
      void send('/api/queue', { method: 'GET' }).catch((error: unknown) => {
        if (error instanceof ApiError && error.code === 'unauthorized') {
          listener.onStatus('unauthorized');
        }
      });
      retry();
    };
  }
  open();
  addEventListener('online', retryNow);
  addEventListener('focus', retryNow);
  return () => {
    isEnded = true;
    clearTimeout(timer);
    removeEventListener('online', retryNow);
    removeEventListener('focus', retryNow);
    socket?.close();
  };
}

function watchFileDrops(drop: FileDrop): () => void {
  let depth = 0;
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
  const onEnter = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    depth += 1;
    if (depth === 1) drop.onHover(true);
  };
  const onLeave = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0) drop.onHover(false);
  };
  const onOver = (event: DragEvent) => {
    if (hasFiles(event)) event.preventDefault();
  };
  const onDrop = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.onHover(false);
    drop.onDrop([...(event.dataTransfer?.files ?? [])], { x: event.clientX, y: event.clientY });
  };
  addEventListener('dragenter', onEnter);
  addEventListener('dragleave', onLeave);
  addEventListener('dragover', onOver);
  addEventListener('drop', onDrop);
  return () => {
    removeEventListener('dragenter', onEnter);
    removeEventListener('dragleave', onLeave);
    removeEventListener('dragover', onOver);
    removeEventListener('drop', onDrop);
  };
}

function download(name: string, url: string): void {
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

export const httpHost: Host = {
  has: { reveal: false },
  call(name, input) {
    const { method, url, body } = toHttpRequest(name as CommandName, input as Input<CommandName>);
    return send(url, {
      method,
      body,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    });
  },
  readMetadata: (file) =>
    send('/api/metadata', {
      method: 'POST',
      body: file,
      headers: { 'Content-Type': 'application/octet-stream' },
    }),
  keepInput: async (file) =>
    (await send('/api/inputs', {
      method: 'POST',
      body: file,
      headers: { 'Content-Type': 'application/octet-stream' },
    })) as KeptInput,
  mediaUrl: (path) => path,
  pageUrl: (path) => path,
  connect,
  watchFileDrops,
  watchMenu: () => () => {},
  saveFile: async (name, content) => {
    const url = URL.createObjectURL(content);
    download(name, url);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  },
  saveAsset: async (id, name) => download(name, `/media/assets/${encodeURIComponent(id)}`),
  revealAsset: () => Promise.reject(new Error('A browser cannot show files in a folder.')),
  openExternal: async (url) => {
    open(url, '_blank', 'noopener,noreferrer');
  },
  pair: async (token) => {
    location.assign(`/pair?token=${encodeURIComponent(token)}`);
  },
};
