// Addresses of pictures.
import { host } from '@/api/host';

export const assetUrl = (id: string) => host.mediaUrl(`/media/assets/${id}`);
export const thumbnailUrl = (id: string, size: 256 | 512 = 256) =>
  host.mediaUrl(`/media/thumbnails/${id}?size=${size}`);
const inputUrl = (sha256: string) => host.mediaUrl(`/media/inputs/${sha256}`);

/** The picture that a reference of a request names, whole. */
export function pictureUrl(reference: string): string {
  const [kind, name = ''] = reference.split(':');
  return kind === 'asset' ? assetUrl(name) : inputUrl(name);
}

/** The latest preview of a running job; of a clip as it moves, where that is wanted. */
export const previewUrl = (job: string, revision: number, isMoving = false) =>
  host.mediaUrl(`/media/previews/${job}?v=${revision}${isMoving ? '&moving=1' : ''}`);
