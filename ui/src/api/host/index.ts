// Which host this page runs in, decided once. Development with a scripted host replaces this file.
import { httpHost } from './http';
import { prepareTauri, tauriHost } from './tauri';
import type { Host } from './types';

export type { ConnectionStatus, FileDrop, Host, HostListener, KeptInput } from './types';

const isWindow = '__TAURI_INTERNALS__' in globalThis;

export const host: Host = isWindow ? tauriHost : httpHost;

/** Resolves once the host can be used. */
export async function prepareHost(): Promise<void> {
  if (isWindow) await prepareTauri();
}
