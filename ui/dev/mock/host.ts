// The scripted host: stands where api/host/index.ts stands in every other build.
import { httpHost } from '@/api/host/http';
import type { Host } from '@/api/host/types';
import { MockBackend } from './backend';
import clip from './clip.mp4?url';
import { paint } from './picture';

export type { ConnectionStatus, FileDrop, Host, HostListener, KeptInput } from '@/api/host/types';

const query = new URLSearchParams(globalThis.location?.search ?? '');
const isTest = import.meta.env.MODE === 'test';

export let backend = new MockBackend(
  isTest
    ? {}
    : {
        assets: Number(query.get('assets') ?? 240),
        history: query.get('empty') === null,
        isAutomatic: true,
        failEvery: 9,
      },
);

/** A fresh studio, for tests. */
export function resetBackend(next = new MockBackend()): MockBackend {
  backend = next;
  return next;
}

function picture(path: string): string {
  const [, kind, id] = /^\/media\/(\w+)\/([\w-]+)/.exec(path) ?? [];
  if (kind === 'previews') {
    const job = backend.jobs.get(id ?? '');
    if (!job) return '';
    const revision = Number(/v=(\d+)/.exec(path)?.[1] ?? 1);
    return paint(
      Number(job.plan.seed),
      job.plan.size.width,
      job.plan.size.height,
      revision / job.plan.steps,
    );
  }
  // What was handed in has a digest and no seed; any picture stands for it.
  if (kind === 'inputs') return paint(Number.parseInt((id ?? '0').slice(0, 6), 16), 256, 192);
  const asset = backend.findAsset(id ?? '');
  if (asset?.kind === 'video' && kind === 'assets') return clip;
  return asset ? paint(Number(asset.recipe.plan.seed), asset.width, asset.height) : '';
}

export const host: Host = {
  ...httpHost,
  call: (name, input) => backend.call(name, input),
  readMetadata: async (file) => backend.readMetadata(file.name),
  keepInput: async (file) => backend.keepInput(file),
  mediaUrl: picture,
  connect: (listener) => {
    listener.onStatus('open');
    return backend.listen((events) => listener.onEvents(events));
  },
  saveAsset: async () => {},
};

export async function prepareHost(): Promise<void> {}
