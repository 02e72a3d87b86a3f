// What lies over a page is part of its address: `?asset=…` the viewer, `?job=…` a job's detail.
// Any page can open them; the app draws them.
import { useCallback } from 'react';
import { useSearchParams } from 'react-router';

import { createStore } from './store';

/** Where "next" and "previous" lead in the viewer: through the list it was opened from. */
export interface ViewerList {
  /** How many pictures the list has. */
  total: number;
  /** The id at a place of the list, loaded when it has to be. */
  idAt(index: number): Promise<string | undefined>;
  index: number;
}

export const viewerList = createStore<ViewerList | null>(null);

export function listOfIds(ids: string[], index: number): ViewerList {
  return { total: ids.length, index, idAt: async (at) => ids[at] };
}

export function useOverlay() {
  const [params, setParams] = useSearchParams();
  const change = useCallback(
    (next: Record<string, string | null>, replace = false) =>
      setParams(
        (now) => {
          const params = new URLSearchParams(now);
          for (const [key, value] of Object.entries(next)) {
            if (value === null) params.delete(key);
            else params.set(key, value);
          }
          return params;
        },
        { replace },
      ),
    [setParams],
  );
  return {
    asset: params.get('asset'),
    job: params.get('job'),
    openAsset: (id: string, list: ViewerList | null = null) => {
      viewerList.set(list);
      change({ asset: id, job: null });
    },
    /** Goes to another picture of the same list, without growing the history. */
    stepAsset: (id: string, index: number) => {
      viewerList.set((list) => (list ? { ...list, index } : list));
      change({ asset: id }, true);
    },
    openJob: (id: string) => change({ job: id, asset: null }),
    close: () => change({ asset: null, job: null }),
  };
}
