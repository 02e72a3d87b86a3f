// The places of the app, in the order of the rail. One list for rail, bottom bar, palette and keys.
import {
  BulkIcon,
  CreateIcon,
  GalleryIcon,
  ModelsIcon,
  QueueIcon,
  SessionsIcon,
  SettingsIcon,
  VideoIcon,
} from '@/components/icons';

export const places = [
  { path: '/create', label: 'Create', icon: CreateIcon, key: 'c', isMain: true },
  { path: '/video', label: 'Video', icon: VideoIcon, key: 'v', isMain: true },
  { path: '/bulk', label: 'Bulk', icon: BulkIcon, key: 'b', isMain: true },
  { path: '/queue', label: 'Queue', icon: QueueIcon, key: 'q', isMain: true },
  { path: '/gallery', label: 'Gallery', icon: GalleryIcon, key: 'g', isMain: true },
  { path: '/sessions', label: 'Sessions', icon: SessionsIcon, key: 's', isMain: false },
  { path: '/models', label: 'Models', icon: ModelsIcon, key: 'm', isMain: false },
  { path: '/settings', label: 'Settings', icon: SettingsIcon, key: ',', isMain: false },
] as const;
