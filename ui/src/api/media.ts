// Addresses of pictures.
import { host } from '@/api/host';

export const assetUrl = (id: string) => host.mediaUrl(`/media/assets/${id}`);
export const thumbnailUrl = (id: string, size: 256 | 512 = 256) =>
  host.mediaUrl(`/media/thumbnails/${id}?size=${size}`);
export const previewUrl = (job: string, revision: number) =>
  host.mediaUrl(`/media/previews/${job}?v=${revision}`);
