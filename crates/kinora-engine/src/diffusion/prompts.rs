//! Prompts that change between steps, for the networks whose text may.

use kinora_core::{Family, Plan};
use kinora_diffusion::pipelines::{ImageParams, PromptChange};
use kinora_prompts::PromptSchedule;

/// Gives a picture's parameters what each step says, where the plan's prompts change between steps
/// and the family reads them so.
pub fn say(plan: &Plan, params: &mut ImageParams) {
    if !matches!(plan.model.family, Family::Sd1 | Family::Sd2 | Family::Sdxl) {
        return;
    }
    let steps = steps_taken(plan);
    let texts = |text: &str| match PromptSchedule::parse(text) {
        Some(schedule) => schedule.texts(steps),
        None => vec![text.to_owned(); steps as usize],
    };
    let (prompts, negatives) = (texts(&plan.prompt), texts(&plan.negative_prompt));
    let mut said = (0..).zip(prompts.into_iter().zip(negatives));
    let Some((_, first)) = said.next() else {
        return;
    };
    (params.prompt, params.negative_prompt) = first.clone();
    let mut last = first;
    for (step, now) in said {
        if now != last {
            params.sd.changes.push(PromptChange {
                step,
                prompt: now.0.clone(),
                negative_prompt: now.1.clone(),
            });
            last = now;
        }
    }
}

/// Steps of the run. One that starts from a picture leaves out those that the picture stands for.
fn steps_taken(plan: &Plan) -> u32 {
    let strength = plan.source.as_ref().and_then(|source| source.strength);
    match strength {
        Some(strength) => (plan.steps as f32 * strength) as u32,
        None => plan.steps,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn said(prompt: &str, family: Family, steps: u32) -> ImageParams {
        let mut plan = crate::worker::tests::plan("a model", Path::new("/nowhere"));
        plan.prompt = prompt.to_owned();
        plan.model.family = family;
        plan.steps = steps;
        let mut params = super::super::to_params(&plan);
        say(&plan, &mut params);
        params
    }

    #[test]
    fn a_change_comes_after_its_share_of_the_steps() {
        let params = said("a [cat:dog:0.5]", Family::Sdxl, 8);
        assert_eq!(params.prompt, "a cat");
        let changes: Vec<_> = (params.sd.changes.iter())
            .map(|change| (change.step, change.prompt.as_str()))
            .collect();
        assert_eq!(changes, [(4, "a dog")]);
    }

    #[test]
    fn turns_change_at_every_step() {
        let params = said("a [cat|dog]", Family::Sd1, 4);
        let steps: Vec<u32> = params.sd.changes.iter().map(|change| change.step).collect();
        assert_eq!(steps, [1, 2, 3]);
    }

    #[test]
    fn other_families_and_plain_prompts_stay_as_they_are() {
        let params = said("a [cat|dog]", Family::Flux, 4);
        assert_eq!(
            (params.prompt.as_str(), params.sd.changes.len()),
            ("a [cat|dog]", 0)
        );
        let params = said("a [cat] (dog:1.2)", Family::Sd1, 4);
        assert_eq!(
            (params.prompt.as_str(), params.sd.changes.len()),
            ("a [cat] (dog:1.2)", 0)
        );
    }
}
