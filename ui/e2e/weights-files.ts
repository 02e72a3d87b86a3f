// Files of weights as people bring them: LoRA files for the starter and for another family, and a
// pickle under a harmless name.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

type Shapes = Record<string, number[]>;

/** A safetensors file in which every number is `value`. */
function safetensors(shapes: Shapes, value: number): Buffer {
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const [name, shape] of Object.entries(shapes)) {
    const bytes = 4 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const words = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(words.length));
  const numbers = new Float32Array(end / 4).fill(value);
  return Buffer.concat([length, words, Buffer.from(numbers.buffer)]);
}

const pair = (layer: string, width: number): Shapes => ({
  [`${layer}.lora_A.weight`]: [4, width],
  [`${layer}.lora_B.weight`]: [width, 4],
});

/** Lays `ink` (two layers of the starter, one that it lacks), `portrait` (made for Stable Diffusion)
 * and `old-model` (a pickle) into a models folder. */
export function layWeightsFiles(models: string): void {
  const loras = join(models, 'loras');
  mkdirSync(loras, { recursive: true });
  const ink = {
    ...pair('transformer.transformer_blocks.0.attn.to_q', 192),
    ...pair('transformer.transformer_blocks.0.attn.to_v', 192),
    ...pair('transformer.transformer_blocks.99.attn.to_q', 192),
  };
  writeFileSync(join(loras, 'ink.safetensors'), safetensors(ink, 0.02));
  const layer = 'lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q';
  const portrait = {
    [`${layer}.lora_down.weight`]: [4, 640],
    [`${layer}.lora_up.weight`]: [640, 4],
    [`${layer}.alpha`]: [],
  };
  writeFileSync(join(loras, 'portrait.safetensors'), safetensors(portrait, 0.02));
  // Protocol 2, an empty dictionary, then a key: how `torch.save` of old began.
  const pickle = Buffer.concat([
    Buffer.from('80027d71005805000000', 'hex'),
    Buffer.alloc(4096, 'x'),
  ]);
  writeFileSync(join(models, 'old-model.safetensors'), pickle);
}
