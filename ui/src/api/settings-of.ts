// A picture's or job's plan as settings that a form understands.
import type { Plan } from './types';

export function settingsOf(plan: Plan): Record<string, unknown> {
  return {
    prompt: plan.prompt,
    negative_prompt: plan.negative_prompt,
    model: plan.model.id,
    width: plan.size.width,
    height: plan.size.height,
    steps: plan.steps,
    guidance: plan.guidance,
    true_cfg: plan.true_cfg,
    seed: plan.seed,
    rng: plan.rng,
    sampler: plan.sampler,
    schedule: plan.schedule,
  };
}
