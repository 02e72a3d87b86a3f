// Providers, routes, and the stream of events.
import { QueryClientProvider } from '@tanstack/react-query';
import { lazy, useEffect, useState } from 'react';
import {
  createHashRouter,
  isRouteErrorResponse,
  Navigate,
  RouterProvider,
  useRouteError,
} from 'react-router';

import { createQueryClient } from '@/api/client';
import { startEvents } from '@/api/connection';
import { Button } from '@/components/ui/Button';
import { EmptyState } from '@/components/ui/Feedback';
import { TooltipProvider } from '@/components/ui/Tooltip';
import { Shell } from './Shell';

const CreatePage = lazy(() => import('@/features/create/CreatePage'));
const VideoPage = lazy(() => import('@/features/video/VideoPage'));
const BulkPage = lazy(() => import('@/features/bulk/BulkPage'));
const QueuePage = lazy(() => import('@/features/queue/QueuePage'));
const GalleryPage = lazy(() => import('@/features/gallery/GalleryPage'));
const SessionsPage = lazy(() => import('@/features/sessions/SessionsPage'));
const ModelsPage = lazy(() => import('@/features/models/ModelsPage'));
const SettingsPage = lazy(() => import('@/features/settings/SettingsPage'));

function Broken() {
  const error = useRouteError();
  const isMissing = isRouteErrorResponse(error) && error.status === 404;
  return (
    <EmptyState
      className="h-full"
      title={isMissing ? 'There is no such page' : 'This page broke'}
      action={
        <Button variant="primary" onClick={() => location.assign('#/create')}>
          To the Create page
        </Button>
      }
    >
      {isMissing
        ? 'The address may be old.'
        : `The queue is not touched by it. ${error instanceof Error ? error.message : ''}`}
    </EmptyState>
  );
}

export const routes = [
  {
    element: <Shell />,
    children: [
      {
        errorElement: <Broken />,
        children: [
          { index: true, element: <Navigate to="/create" replace /> },
          { path: 'create', element: <CreatePage /> },
          { path: 'video', element: <VideoPage /> },
          { path: 'bulk', element: <BulkPage /> },
          { path: 'bulk/:batch', element: <BulkPage /> },
          { path: 'queue', element: <QueuePage /> },
          { path: 'gallery', element: <GalleryPage /> },
          { path: 'sessions', element: <SessionsPage /> },
          { path: 'models', element: <ModelsPage /> },
          { path: 'settings', element: <SettingsPage /> },
          { path: 'settings/:section', element: <SettingsPage /> },
          { path: '*', element: <Navigate to="/create" replace /> },
        ],
      },
    ],
  },
];

export function App() {
  const [client] = useState(createQueryClient);
  // Addresses behind `#` work the same in the window, behind a proxy and from a file server.
  const [router] = useState(() => createHashRouter(routes));
  useEffect(() => startEvents(client), [client]);
  return (
    <QueryClientProvider client={client}>
      <TooltipProvider>
        <RouterProvider router={router} />
      </TooltipProvider>
    </QueryClientProvider>
  );
}
