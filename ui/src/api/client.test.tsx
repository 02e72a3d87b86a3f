import { act, renderHook, waitFor } from '@testing-library/react';
import { QueryClientProvider } from '@tanstack/react-query';
import { type ReactNode } from 'react';
import { describe, expect, it, vi } from 'vitest';

import { MockBackend } from '#dev/mock/backend';
import { resetBackend } from '#dev/mock/host';
import { createQueryClient, useCommand } from './client';
import { ApiError } from './error';
import { PAGE_SIZE } from './keys';
import { useAssetWindow, useQueue } from './queries';

function setUp() {
  const client = createQueryClient();
  const wrapper = ({ children }: { children: ReactNode }) => (
    <QueryClientProvider client={client}>{children}</QueryClientProvider>
  );
  return { client, wrapper };
}

describe('commands', () => {
  it('work without any network but this machine', async () => {
    resetBackend();
    const online = vi.spyOn(navigator, 'onLine', 'get').mockReturnValue(false);
    const { wrapper } = setUp();
    const { result } = renderHook(() => useQueue(), { wrapper });
    await waitFor(() => expect(result.current.data?.is_paused).toBe(false));
    online.mockRestore();
  });

  it('refresh what the table says that they change', async () => {
    resetBackend();
    const { client, wrapper } = setUp();
    const invalidate = vi.spyOn(client, 'invalidateQueries');
    const { result } = renderHook(() => useCommand('queue_pause'), { wrapper });
    await act(() => result.current.mutateAsync({}));
    expect(invalidate.mock.calls.map(([filters]) => filters?.queryKey)).toEqual([
      ['queue'],
      ['jobs'],
    ]);
  });

  it('fail with words', async () => {
    resetBackend();
    const { wrapper } = setUp();
    const { result } = renderHook(() => useCommand('jobs_cancel'), { wrapper });
    const error = await act(() => result.current.mutateAsync({ id: 'x' }).catch((e: unknown) => e));
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).hint).not.toBe('');
  });
});

describe('a long list', () => {
  const reads = (backend: MockBackend) =>
    backend.calls
      .filter(({ name }) => name === 'assets_list')
      .map(({ input }) => (input as { offset: number }).offset);

  it('reads only the pages that are on screen', async () => {
    const backend = resetBackend(new MockBackend({ assets: 100_000 }));
    const { wrapper } = setUp();
    const { result, rerender } = renderHook(({ at }) => useAssetWindow({}, at, at + 30), {
      wrapper,
      initialProps: { at: 0 },
    });
    await waitFor(() => expect(result.current.total).toBe(100_000));
    expect(reads(backend)).toEqual([0]);
    rerender({ at: 60_010 });
    await waitFor(() => expect(result.current.at(60_010)).toBeDefined());
    expect(reads(backend)).toEqual([0, 60_000]);
    expect(60_000 % PAGE_SIZE).toBe(0);
    expect(result.current.at(30_000)).toBeUndefined();
  });

  it('keeps showing the last one while another filter is on its way', async () => {
    resetBackend(new MockBackend({ assets: 30 }));
    const { wrapper } = setUp();
    const { result, rerender } = renderHook(({ search }) => useAssetWindow({ search }, 0, 29), {
      wrapper,
      initialProps: { search: '' },
    });
    await waitFor(() => expect(result.current.total).toBe(30));
    rerender({ search: 'windmill' });
    expect(result.current.total).toBe(30);
    expect(result.current.isPrevious).toBe(true);
    await waitFor(() => expect(result.current.total).toBe(3));
    expect(result.current.isPrevious).toBe(false);
  });
});
