// Calling commands by name, typed, and keeping the cache true afterwards.
import { QueryClient, useMutation } from '@tanstack/react-query';

import { host } from '@/api/host';
import {
  commands,
  type CommandName,
  type Input,
  type Output,
  type Tag,
} from './generated/commands';
import { ApiError, toApiError } from './error';

export type { CommandName, Input, Output } from './generated/commands';

export async function call<N extends CommandName>(name: N, input: Input<N>): Promise<Output<N>> {
  try {
    return (await host.call(name, input)) as Output<N>;
  } catch (error) {
    throw toApiError(error);
  }
}

/** The first word of every query key; events and commands make caches stale by these. */
export const tagOf = (tag: Tag) => [tag] as const;

export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // The server is this machine or a neighbour; being offline does not keep us from it.
        networkMode: 'always',
        // Events keep the cache true, so nothing grows stale by itself.
        staleTime: Infinity,
        gcTime: 5 * 60_000,
        refetchOnWindowFocus: false,
        retry: (count, error) =>
          count < 2 && error instanceof ApiError && error.code === 'unreachable',
        retryDelay: (count) => 400 * 2 ** count,
      },
      mutations: { networkMode: 'always', retry: false },
    },
  });
}

/**
 * A command as an action of the user. What it changes comes back as events as well; the tags are
 * refreshed too so that a page is right even while the event stream is cut.
 */
export function useCommand<N extends CommandName>(name: N) {
  return useMutation<Output<N>, ApiError, Input<N>>({
    mutationKey: [name],
    mutationFn: (input) => call(name, input),
    onSuccess: (_output, _input, _result, context) => {
      for (const tag of commands[name].changes) {
        void context.client.invalidateQueries({ queryKey: tagOf(tag) });
      }
    },
  });
}
