// A picture's or job's plan as settings that a form understands.
import type { Plan } from './types';

/** With its choices, where its words were drawn: the same seed draws the same ones again. */
export function settingsOf(plan: Plan): Record<string, unknown> {
  const { template } = plan;
  return {
    prompt: template ? template.prompt : plan.prompt,
    negative_prompt: template ? template.negative_prompt : plan.negative_prompt,
    expansion: template && template.expansion !== 'random' ? template.expansion : null,
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
