// Whether the stream of events is up, and what starts it.
import type { QueryClient } from '@tanstack/react-query';

import { host, type ConnectionStatus } from '@/api/host';
import { createStore } from '@/lib/store';
import { EventSink } from './events';

export const connectionStore = createStore<ConnectionStatus>('connecting');

/** Follows the host's events into the cache until the answered function is called. */
export function startEvents(client: QueryClient): () => void {
  const sink = new EventSink(client);
  let wasLost = false;
  return host.connect({
    onEvents: (events) => sink.push(events),
    onStatus: (status) => {
      if (status === 'open' && wasLost) sink.refreshAll(); // We may have missed something.
      if (status === 'lost') wasLost = true;
      // "Lost" is what follows a refused handshake; the reason says more.
      if (status === 'lost' && connectionStore.get() === 'unauthorized') return;
      connectionStore.set(status);
    },
  });
}
