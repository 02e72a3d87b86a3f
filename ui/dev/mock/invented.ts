// A picture and a failure as the real ones look.
import type { Asset, Failure, Job, Plan } from '@/api/types';

export function makeAsset(plan: Plan, id: string, at: number, job?: Job): Asset {
  return {
    id,
    job: job?.id ?? null,
    batch: job?.batch ?? null,
    session: job?.session ?? null,
    kind: 'image',
    format: plan.output.format,
    path: `${plan.output.stem}.${plan.output.format}`,
    width: plan.size.width,
    height: plan.size.height,
    bytes: 131_072,
    sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    recipe: {
      recipe: 1,
      kinora: '0.1.0',
      plan,
      device: 'NVIDIA GB10',
      dtype: 'bf16',
      timings: {
        queued_ms: 40,
        loading_ms: 0,
        encoding_ms: 31,
        generating_ms: 820,
        decoding_ms: 140,
        saving_ms: 22,
        batch: 1,
        resumed_steps: 0,
      },
      created_at: at,
    },
    created_at: at,
    trashed_at: null,
  };
}

/** The same as a clip of five seconds, which `clip.mp4` stands for. */
export function asClip(asset: Asset): Asset {
  return {
    ...asset,
    kind: 'video',
    format: 'mp4',
    path: asset.path.replace(/\.\w+$/, '.mp4'),
    width: 320,
    height: 192,
    clip: {
      frames: 80,
      rate: { numerator: 16, denominator: 1 },
      duration_ms: 5000,
      has_sound: true,
      codec: 'h264',
    },
  };
}

export function inventFailure(index: number): Failure {
  return {
    code: index % 2 ? 'engine_lost' : 'out_of_memory',
    message:
      index % 2
        ? 'finish the picture: the engine was killed while it decoded'
        : 'run Kinora Starter at 256×256: it needs 9.6 GB of memory, and 7.1 GB may be used',
    hint:
      index % 2
        ? 'Try it again; the engine has been restarted.'
        : 'Close other programs, or make the picture smaller.',
    stage: 'decoding',
    step: 1,
    fix: index % 2 ? { kind: 'retry' } : { kind: 'resize', width: 192, height: 192 },
    log: [
      'group 17: 1 job, 256×256, 8 steps',
      'denoised in 812 ms',
      'decode: allocating 9.6 GB',
      'error: out of memory',
    ],
    memory: Array.from({ length: 30 }, (_, i) => ({
      at_ms: i * 60,
      resident: 1e9 + (i < 20 ? i * 9e7 : 1.8e9 + (i - 20) * 6e8),
      available: 9.4e9 - (i < 20 ? i * 6e7 : 1.2e9 + (i - 20) * 5e8),
    })),
  };
}
