// The host in the desktop window: commands and events over Tauri's IPC, pictures from the app's own
// loopback media server, file drops as paths that the shell reads for us.
//
// Functions of the shell used here: call, host_info, read_dropped_file, read_metadata, keep_input, save_file,
// save_asset, reveal_asset, open_external. Events: kinora://event (one event or several), and
// kinora://menu (the id of an action of app/actions.ts: `go/queue`, `pause`, `palette`, …).
import { invoke } from '@tauri-apps/api/core';
import { listen } from '@tauri-apps/api/event';
import { getCurrentWebview } from '@tauri-apps/api/webview';

import { toApiError } from '@/api/error';
import type { Event } from '@/api/types';
import type { FileDrop, Host, HostListener } from './types';

interface HostInfo {
  /** Address of the loopback media server: `http://127.0.0.1:43121`. */
  media_base: string;
  /** Token of this launch. */
  token: string;
}

let info: HostInfo | undefined;

/** Asks the shell where the media server is. Must have answered before the first picture. */
export async function prepareTauri(): Promise<void> {
  info = await invoke<HostInfo>('host_info');
}

function withToken(path: string): string {
  if (!info) throw new Error('The host has not been prepared.');
  const url = new URL(path, info.media_base);
  url.searchParams.set('token', info.token);
  return url.href;
}

async function ask<T>(name: string, args: Record<string, unknown>): Promise<T> {
  try {
    return await invoke<T>(name, args);
  } catch (error) {
    throw toApiError(error);
  }
}

function connect(listener: HostListener): () => void {
  let isEnded = false;
  let stop: (() => void) | undefined;
  void listen<Event | Event[]>('kinora://event', ({ payload }) => {
    listener.onEvents(Array.isArray(payload) ? payload : [payload]);
  }).then(
    (unlisten) => {
      if (isEnded) return unlisten();
      stop = unlisten;
      listener.onStatus('open');
    },
    () => listener.onStatus('lost'),
  );
  return () => {
    isEnded = true;
    stop?.();
  };
}

function watchMenu(onAction: (id: string) => void): () => void {
  let isEnded = false;
  let stop: (() => void) | undefined;
  void listen<string>('kinora://menu', ({ payload }) => onAction(payload)).then((unlisten) => {
    if (isEnded) return unlisten();
    stop = unlisten;
  });
  return () => {
    isEnded = true;
    stop?.();
  };
}

const nameOf = (path: string) => path.split(/[\\/]/).pop() ?? path;

function watchFileDrops(drop: FileDrop): () => void {
  let isEnded = false;
  let stop: (() => void) | undefined;
  void getCurrentWebview()
    .onDragDropEvent(({ payload }) => {
      if (payload.type === 'enter') drop.onHover(payload.paths.length > 0);
      if (payload.type === 'leave') drop.onHover(false);
      if (payload.type !== 'drop') return;
      drop.onHover(false);
      const at = {
        x: payload.position.x / devicePixelRatio,
        y: payload.position.y / devicePixelRatio,
      };
      void Promise.all(
        payload.paths.map(async (path) => {
          const bytes = await ask<ArrayBuffer>('read_dropped_file', { path });
          return new File([bytes], nameOf(path));
        }),
      ).then(
        (files) => drop.onDrop(files, at),
        () => drop.onDrop([], at),
      );
    })
    .then((unlisten) => {
      if (isEnded) return unlisten();
      stop = unlisten;
    });
  return () => {
    isEnded = true;
    stop?.();
  };
}

export const tauriHost: Host = {
  has: { reveal: true },
  call: (name, input) => ask('call', { name, input: input ?? {} }),
  readMetadata: async (file) => {
    try {
      return await invoke('read_metadata', new Uint8Array(await file.arrayBuffer()));
    } catch (error) {
      throw toApiError(error);
    }
  },
  keepInput: async (file) => {
    try {
      return await invoke('keep_input', new Uint8Array(await file.arrayBuffer()));
    } catch (error) {
      throw toApiError(error);
    }
  },
  mediaUrl: withToken,
  pageUrl: withToken,
  connect,
  watchFileDrops,
  watchMenu,
  saveFile: async (name, content) => {
    const bytes = new Uint8Array(await content.arrayBuffer());
    try {
      await invoke('save_file', bytes, { headers: { 'x-file-name': encodeURIComponent(name) } });
    } catch (error) {
      throw toApiError(error);
    }
  },
  saveAsset: (id, name) => ask('save_asset', { id, name }),
  revealAsset: (id) => ask('reveal_asset', { id }),
  openExternal: (url) => ask('open_external', { url }),
  pair: async () => {},
};
