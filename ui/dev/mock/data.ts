// What the scripted host starts with.
import type { Model } from '@/api/types';

const PRESETS = (long: number, multiple: number) =>
  (
    [
      ['1:1', 1],
      ['4:3', 4 / 3],
      ['3:2', 3 / 2],
      ['16:9', 16 / 9],
      ['21:9', 21 / 9],
      ['3:4', 3 / 4],
      ['2:3', 2 / 3],
      ['9:16', 9 / 16],
    ] as const
  ).map(([label, ratio]) => {
    const snap = (value: number) => Math.round(value / multiple) * multiple;
    return ratio >= 1
      ? {
          label,
          width: snap(long * Math.min(1.25, Math.sqrt(ratio))),
          height: snap(long / Math.sqrt(ratio)),
        }
      : { label, width: snap(long * Math.sqrt(ratio)), height: snap(long / Math.sqrt(ratio)) };
  });

export const MODELS: Model[] = [
  {
    id: 'starter',
    name: 'Kinora Starter',
    family: 'flux',
    variant: 'schnell',
    description:
      'A tiny model that ships with Kinora and paints flat-illustration landscapes in seconds, on any machine.',
    category: 'fast',
    tags: ['landscape', 'illustration', 'built in'],
    source: 'built_in',
    capabilities: {
      modes: ['text_to_image'],
      size: {
        min: 64,
        max: 512,
        multiple: 16,
        default: { width: 256, height: 256 },
        presets: PRESETS(256, 16),
      },
      steps: { min: 1, max: 50, default: 8 },
      guidance: null,
      true_cfg: null,
      copies: { min: 1, max: 64, default: 1 },
      prompt_chars: 2000,
      prompt_weights: false,
      prompt_schedule: false,
      text_tokens: 64,
      samplers: ['euler'],
      schedules: ['flow_match'],
    },
    defaults: { width: 256, height: 256, steps: 8, guidance: null },
    is_installed: true,
    fault: null,
    bytes: 14_800_000,
    memory_bytes: 62_000_000,
    approval_url: null,
    example_prompts: [
      'a snowy mountain under a pink dawn, two pine trees, a small red cabin by the lake',
      'rolling green hills at noon, a white windmill, three sheep',
      'a desert at dusk, tall cacti, a full moon over the dunes',
    ],
  },
  {
    id: 'flux-schnell',
    name: 'FLUX.1 schnell',
    family: 'flux',
    variant: 'schnell',
    description: 'Twelve billion parameters, four steps. The quickest way to a finished picture.',
    category: 'fast',
    tags: ['general', 'photo', 'text in pictures'],
    source: 'catalogue',
    capabilities: {
      modes: ['text_to_image'],
      size: {
        min: 256,
        max: 2048,
        multiple: 16,
        default: { width: 1024, height: 1024 },
        presets: PRESETS(1024, 64),
      },
      steps: { min: 1, max: 50, default: 4 },
      guidance: null,
      true_cfg: { min: 1, max: 10, default: 3 },
      copies: { min: 1, max: 64, default: 1 },
      prompt_chars: 2000,
      prompt_weights: false,
      prompt_schedule: false,
      text_tokens: 256,
      samplers: ['euler'],
      schedules: ['flow_match'],
    },
    defaults: { width: 1024, height: 1024, steps: 4, guidance: null },
    is_installed: true,
    fault: null,
    bytes: 33_700_000_000,
    memory_bytes: 33_200_000_000,
    approval_url: null,
    example_prompts: ['a lighthouse keeper reading by a storm lantern, oil painting, warm light'],
  },
  {
    id: 'flux-dev',
    name: 'FLUX.1 dev',
    family: 'flux',
    variant: 'dev',
    description: 'The finest detail of the FLUX.1 family, with guidance. For non-commercial work.',
    category: 'quality',
    tags: ['general', 'photo', 'detail'],
    source: 'catalogue',
    capabilities: {
      modes: ['text_to_image'],
      size: {
        min: 256,
        max: 2048,
        multiple: 16,
        default: { width: 1024, height: 1024 },
        presets: PRESETS(1024, 64),
      },
      steps: { min: 1, max: 100, default: 28 },
      guidance: { min: 0, max: 20, default: 3.5 },
      true_cfg: { min: 1, max: 10, default: 3 },
      copies: { min: 1, max: 64, default: 1 },
      prompt_chars: 2000,
      prompt_weights: false,
      prompt_schedule: false,
      text_tokens: 512,
      samplers: ['euler'],
      schedules: ['flow_match'],
    },
    defaults: { width: 1024, height: 1024, steps: 28, guidance: 3.5 },
    is_installed: false,
    fault: null,
    bytes: 33_700_000_000,
    memory_bytes: 33_200_000_000,
    approval_url: 'https://huggingface.co/black-forest-labs/FLUX.1-dev',
    example_prompts: ['a portrait of an old clockmaker, window light, 85 mm'],
  },
];

export const PROMPTS = [
  'a snowy mountain under a pink dawn, two pine trees, a small red cabin by the lake',
  'rolling green hills at noon, a white windmill, three sheep',
  'a desert at dusk, tall cacti, a full moon over the dunes',
  'an autumn forest in fog, a stone bridge, falling leaves',
  'a calm sea at night, a lighthouse, a crescent moon and stars',
  'a volcano island at sunset, palm trees, a sailing boat',
  'a frozen river in winter, birch trees, a fox in the snow',
  'terraced rice fields in the morning mist, a small temple',
  'a meadow with poppies in summer rain, a distant village',
  'a canyon in the evening light, an eagle over the river',
];
