// How a browser shows a file.
import type { FileFormat } from '@/api/types';

export type PlayerKind = 'video' | 'animation' | 'archive' | 'picture';

const KINDS: Record<FileFormat, PlayerKind> = {
  png: 'picture',
  jpeg: 'picture',
  webp: 'picture',
  mp4: 'video',
  mp4_h265: 'video',
  mp4_av1: 'video',
  webm: 'video',
  gif: 'animation',
  animated_webp: 'animation',
  frames: 'archive',
};

export const kindOf = (format: FileFormat): PlayerKind => KINDS[format];

const NAMES: Record<FileFormat, string> = {
  png: 'PNG',
  jpeg: 'JPEG',
  webp: 'WebP',
  mp4: 'MP4 (H.264)',
  mp4_h265: 'MP4 (H.265)',
  mp4_av1: 'MP4 (AV1)',
  webm: 'WebM (VP9)',
  gif: 'GIF',
  animated_webp: 'Animated WebP',
  frames: 'PNG frames (ZIP)',
};

export const formatName = (format: FileFormat): string => NAMES[format];
