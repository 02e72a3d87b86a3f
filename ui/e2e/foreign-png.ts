// Pictures as other programs save them: one pixel, and the settings in a text chunk.
import { deflateSync } from 'node:zlib';

function crc(bytes: Buffer): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

function chunk(kind: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(kind, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc(body));
  return Buffer.concat([length, body, sum]);
}

/** A PNG with one `tEXt` chunk. */
export function pngWithText(key: string, text: string): Buffer {
  const header = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('tEXt', Buffer.from(`${key}\0${text}`, 'latin1')),
    chunk('IDAT', deflateSync(Buffer.from([0, 200, 120, 60]))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

export const A1111 = pngWithText(
  'parameters',
  [
    'a calm sea at night, a lighthouse',
    'Negative prompt: blurry',
    'Steps: 6, Sampler: Euler, CFG scale: 1, Seed: 4242, Size: 320x192, Model: something',
  ].join('\n'),
);

export const COMFYUI = pngWithText(
  'prompt',
  JSON.stringify({
    '1': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'something.safetensors' } },
    '2': {
      class_type: 'CLIPTextEncode',
      inputs: { text: 'a red barn in the snow', clip: ['1', 1] },
    },
    '3': { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['1', 1] } },
    '4': { class_type: 'EmptyLatentImage', inputs: { width: 256, height: 320, batch_size: 1 } },
    '5': {
      class_type: 'KSampler',
      inputs: {
        seed: 777,
        steps: 9,
        cfg: 1,
        sampler_name: 'euler',
        scheduler: 'simple',
        denoise: 1,
        model: ['1', 0],
        positive: ['2', 0],
        negative: ['3', 0],
        latent_image: ['4', 0],
      },
    },
    '6': { class_type: 'VAEDecode', inputs: { samples: ['5', 0], vae: ['1', 2] } },
    '7': { class_type: 'SaveImage', inputs: { images: ['6', 0], filename_prefix: 'x' } },
  }),
);
