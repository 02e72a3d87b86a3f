// A picture's or job's plan as settings that a form understands.
import type { Plan } from './types';

const input = (sha256: string | undefined) => (sha256 ? `input:${sha256}` : null);

/** Of a draft, what it is a draft of. With its choices, where its words were drawn: the same seed draws the same ones again. */
export function settingsOf(plan: Plan): Record<string, unknown> {
  const { template, draft } = plan;
  const size = draft?.size ?? plan.size;
  return {
    prompt: template ? template.prompt : plan.prompt,
    negative_prompt: template ? template.negative_prompt : plan.negative_prompt,
    expansion: template && template.expansion !== 'random' ? template.expansion : null,
    model: plan.model.id,
    components: plan.model.components ?? {},
    width: size.width,
    height: size.height,
    steps: draft?.steps ?? plan.steps,
    guidance: plan.guidance,
    true_cfg: plan.true_cfg,
    step_cache: plan.step_cache ?? null,
    seed: plan.seed,
    rng: plan.rng,
    sampler: plan.sampler,
    schedule: plan.schedule,
    image: input(plan.source?.image.sha256),
    more_images: (plan.source?.more_images ?? []).map(({ image, strength }) => ({
      image: input(image.sha256),
      strength,
    })),
    mask: input(plan.source?.mask?.sha256),
    strength: plan.source?.strength ?? null,
    loras: (plan.loras ?? []).map(({ name, weight, expert }) => ({ name, weight, expert })),
    video: plan.video
      ? {
          ...plan.video,
          frames: draft?.frames ?? plan.video.frames,
          end_image: input(plan.source?.end_image?.sha256),
        }
      : undefined,
  };
}
