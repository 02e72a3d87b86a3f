// Draws a page for a test: providers, a router in memory, events from the scripted host.
import { QueryClientProvider } from '@tanstack/react-query';
import { render } from '@testing-library/react';
import type { ReactNode } from 'react';
import { MemoryRouter, Route, Routes } from 'react-router';

import { createQueryClient } from '@/api/client';
import { startEvents } from '@/api/connection';
import { TooltipProvider } from '@/components/ui/Tooltip';

export function renderPage(page: ReactNode, path = '/') {
  const client = createQueryClient();
  const stop = startEvents(client);
  const result = render(
    <QueryClientProvider client={client}>
      <TooltipProvider>
        <MemoryRouter initialEntries={[path]}>
          <Routes>
            <Route path="*" element={page} />
          </Routes>
        </MemoryRouter>
      </TooltipProvider>
    </QueryClientProvider>,
  );
  return { client, stop, ...result };
}
