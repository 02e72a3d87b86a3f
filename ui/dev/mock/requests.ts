// Requests of the scripted studio: what is wrong with them, what they become, what they cost. Enough
// to draw a form against; the real rules are the server's.
import type { Model, Plan, PreviewInput, Problem, RequestInput } from '@/api/types';
import { MODELS } from './data';
import { MockState } from './state';

export class MockRequests extends MockState {
  protected modelOf(request: RequestInput): Model | undefined {
    const usual = request.kind === 'video' ? 'wan-5b' : 'starter';
    return MODELS.find((model) => model.id === (request.model ?? usual));
  }

  /** Whether a file may stand for a part. */
  protected isPart(_part: string, _file: string): boolean {
    return true;
  }

  protected check(request: RequestInput): {
    problems: Problem[];
    notes: { field?: string; message: string }[];
  } {
    const problems: Problem[] = [];
    const notes: { field?: string; message: string }[] = [];
    const model = this.modelOf(request);
    const bad = (
      field: string,
      message: string,
      hint: string,
      code: Problem['code'] = 'invalid_input',
    ) => problems.push({ code, field, message, hint });
    if (!model) {
      bad(
        'model',
        `There is no model named ${request.model}.`,
        'Choose one of the catalogue.',
        'unknown_model',
      );
      return { problems, notes };
    }
    if (!request.prompt?.trim() && !(model.capabilities.video && request.image))
      bad('prompt', 'The prompt is empty.', 'Say what to paint.');
    if (!model.is_installed)
      bad(
        'model',
        `${model.name} is not installed.`,
        'Put its files into the models folder, or choose another model.',
        'model_not_installed',
      );
    const { steps, size, guidance, copies } = model.capabilities;
    if (request.steps != null && (request.steps < steps.min || request.steps > steps.max))
      bad(
        'steps',
        `Steps must be from ${steps.min} to ${steps.max}.`,
        'Change the number of steps.',
      );
    if (request.copies != null && (request.copies < copies.min || request.copies > copies.max))
      bad('copies', `Copies must be from ${copies.min} to ${copies.max}.`, 'Ask for fewer copies.');
    if (request.guidance != null && !guidance)
      bad('guidance', `${model.name} has no guidance.`, 'Leave it out.');
    for (const [part, file] of Object.entries(request.components ?? {}))
      if (!this.isPart(part, file))
        bad(
          `components.${part}`,
          `failed to use ${file} as the ${part} of ${model.name}: there is no such file`,
          'No other file in the model folders fits there.',
        );
    for (const side of ['width', 'height'] as const) {
      const value = request[side];
      if (value == null) continue;
      if (value < size.min || value > size.max)
        bad(
          side,
          `The ${side} must be from ${size.min} to ${size.max} pixels.`,
          'Choose a size within the limits.',
        );
      else if (value % size.multiple)
        notes.push({
          field: side,
          message: `The ${side} becomes ${Math.round(value / size.multiple) * size.multiple}: sides are multiples of ${size.multiple}.`,
        });
    }
    return { problems, notes };
  }

  protected plan(request: RequestInput, copy: number): Plan {
    const model = this.modelOf(request)!;
    const { multiple } = model.capabilities.size;
    const snap = (value: number) => Math.round(value / multiple) * multiple;
    const seed = Number(request.seed ?? Math.floor(Math.random() * 2 ** 32)) + copy;
    const rule = model.capabilities.video;
    const size = {
      width: snap(request.width ?? model.defaults.width),
      height: snap(request.height ?? model.defaults.height),
    };
    const steps = request.steps ?? model.defaults.steps;
    const full = { size, steps, frames: rule?.frames.default };
    const small = request.draft
      ? {
          size: { width: snap(size.width / 1.5), height: snap(size.height / 1.5) },
          steps: Math.min(steps, Math.max(8, Math.ceil(steps / 4))),
          frames: rule && 33,
        }
      : full;
    return {
      version: 1,
      numerics: '2026.1',
      mode: rule ? (request.image ? 'image_to_video' : 'text_to_video') : 'text_to_image',
      ...(rule ? { video: { frames: small.frames!, fps: rule.fps.default } } : {}),
      ...(request.draft ? { draft: full } : {}),
      model: {
        id: model.id,
        name: model.name,
        family: model.family,
        variant: model.variant,
        ...(request.components && { components: request.components }),
        weights: [
          {
            component: 'transformer',
            file: 'transformer/diffusion_pytorch_model.safetensors',
            bytes: 9.1e6,
            sha256: 'ab12'.repeat(16),
          },
          {
            component: 'vae',
            file: 'vae/diffusion_pytorch_model.safetensors',
            bytes: 2.2e6,
            sha256: 'cd34'.repeat(16),
          },
        ],
      },
      prompt: request.prompt ?? '',
      negative_prompt: request.negative_prompt ?? '',
      size: small.size,
      steps: small.steps,
      guidance: model.capabilities.guidance ? (request.guidance ?? model.defaults.guidance) : null,
      true_cfg: request.negative_prompt ? (request.true_cfg ?? 3) : null,
      seed,
      rng: request.rng ?? 'cpu',
      text_tokens: model.capabilities.text_tokens,
      sampler: 'euler',
      schedule: 'flow_match',
      output: {
        stem: `2026-03-14/${(request.prompt ?? '').slice(0, 40).replaceAll(/[^a-z0-9]+/gi, '-')}-${seed}`,
        format: request.format ?? (rule ? 'mp4' : 'png'),
      },
    };
  }

  protected estimate(pictures: number, model: Model) {
    const each = model.id === 'starter' ? 1.1 : 6.4;
    return {
      seconds: pictures * each,
      margin_seconds: 0.3 * Math.sqrt(pictures),
      runs: 42,
      wait_seconds: this.status().counts.queued * each,
      memory_needed: model.memory_bytes + 4e8,
      memory_available: 71e9,
      disk_needed: pictures * 1.4e6,
      disk_available: 412e9,
    };
  }

  /** Flat choices only; the server reads the whole language. */
  prompts_preview(input: PreviewInput) {
    const prompt = input.prompt ?? '';
    const choices = [...prompt.matchAll(/\{([^{}]*\|[^{}]*)\}/g)].map(([, inside]) =>
      inside!.split('|'),
    );
    const total = choices.reduce((product, { length }) => product * length, 1);
    const text = (index: number) => {
      let rest = index;
      const picks = choices
        .toReversed()
        .map((options) => {
          const pick = options[rest % options.length]!;
          rest = Math.floor(rest / options.length);
          return pick;
        })
        .toReversed();
      return prompt.replaceAll(/\{([^{}]*\|[^{}]*)\}/g, () => picks.shift() ?? '');
    };
    const all = Array.from({ length: Math.min(total, input.limit ?? 10) }, (_, index) => ({
      prompt: text(index),
      negative_prompt: input.negative_prompt ?? '',
      seed: null,
    }));
    return {
      is_plain: !choices.length,
      total,
      limit: 1000,
      expansions: all,
      steps: [],
      problems: [],
    };
  }

  jobs_preflight(request: RequestInput) {
    const { problems, notes } = this.check(request);
    const pictures = problems.length ? 0 : (request.copies ?? 1);
    const plan = problems.length ? null : this.plan(request, 0);
    return {
      problems,
      notes,
      pictures,
      outputs: plan ? [plan.output.stem] : [],
      outline: plan && {
        model: plan.model.id,
        mode: plan.mode,
        size: plan.size,
        steps: plan.steps,
        video: plan.video ?? null,
        draft: plan.draft ?? null,
      },
      estimate: problems.length ? null : this.estimate(pictures, this.modelOf(request)!),
    };
  }
}
