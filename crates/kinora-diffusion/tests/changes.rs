//! Prompts that change between steps, on the tiny models of recorded cases.

mod common;

use common::{cases, open, params};
use kinora_core::{Sampler, Schedule, Stage};
use kinora_diffusion::{
    Result,
    pipelines::{Checkpoint, ImageParams, Pipeline, PromptChange, RgbImage, RunLimits, RunWatch},
};

/// The latents after each step of each job.
#[derive(Default)]
struct Steps {
    latents: Vec<Vec<Vec<f32>>>,
    checkpoints: Vec<Checkpoint>,
    resume: Option<Checkpoint>,
}

impl RunWatch for Steps {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        self.resume.clone()
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        true
    }

    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.latents
            .resize(self.latents.len().max(job + 1), Vec::new());
        self.latents[job].push(checkpoint.state.latents.clone());
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn image(&mut self, _: usize, _: RgbImage) -> Result<()> {
        Ok(())
    }
}

fn job(prompt: &str, changes: &[(u32, &str)]) -> ImageParams {
    let mut job = ImageParams {
        true_cfg: Some(5.0),
        guidance: None,
        negative_prompt: "blurry".into(),
        width: 64,
        height: 64,
        steps: 4,
        // One call of the network for each step.
        sampler: Some((Sampler::Euler, Schedule::Automatic)),
        ..params(prompt)
    };
    job.sd.changes = (changes.iter())
        .map(|(step, prompt)| PromptChange {
            step: *step,
            prompt: (*prompt).to_owned(),
            negative_prompt: "blurry".into(),
        })
        .collect();
    job
}

fn steps(pipeline: &mut Pipeline, jobs: &[ImageParams]) -> Vec<Vec<Vec<f32>>> {
    let mut steps = Steps::default();
    pipeline.run(jobs, RunLimits::NONE, &mut steps).unwrap();
    steps.latents
}

#[test]
fn steps_before_a_change_are_those_of_the_first_prompt() {
    for case in ["sd15", "sdxl"] {
        let mut pipeline = open(&cases().join(case).join("model"));
        let plain = steps(&mut pipeline, &[job("a red car", &[])]).remove(0);
        let turned = job("a red car", &[(2, "a blue boat at night")]);
        let changed = steps(&mut pipeline, std::slice::from_ref(&turned)).remove(0);
        assert_eq!(plain.len(), changed.len());
        assert!(plain[..2] == changed[..2], "{case}");
        assert!(plain[2] != changed[2] && plain[3] != changed[3], "{case}");
        // A change that never comes changes nothing.
        let late = job("a red car", &[(4, "a blue boat at night")]);
        assert!(steps(&mut pipeline, &[late]).remove(0) == plain, "{case}");
        // With others in one batch it is the same.
        let both = steps(&mut pipeline, &[job("a red car", &[]), turned]);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(
            near(&both[1][3], &changed[3]) && near(&both[0][3], &plain[3]),
            "{case}"
        );
    }
}

#[test]
fn a_run_is_taken_up_behind_a_change() {
    let mut pipeline = open(&cases().join("sd15/model"));
    let turned = job(
        "a red car",
        &[(1, "a blue boat"), (2, "a red car"), (3, "a dog")],
    );
    let mut first = Steps::default();
    let jobs = std::slice::from_ref(&turned);
    pipeline.run(jobs, RunLimits::NONE, &mut first).unwrap();
    for done in 1..4 {
        let mut again = Steps {
            resume: Some(first.checkpoints[done - 1].clone()),
            ..Steps::default()
        };
        pipeline.run(jobs, RunLimits::NONE, &mut again).unwrap();
        assert_eq!(again.latents[0].len(), 4 - done);
        assert!(
            again.latents[0].last() == first.latents[0].last(),
            "after {done} steps"
        );
    }
    // The same prompts at other steps are other work.
    let moved = job("a red car", &[(1, "a blue boat"), (3, "a dog")]);
    let mut other = Steps {
        resume: Some(first.checkpoints[2].clone()),
        ..Steps::default()
    };
    pipeline.run(&[moved], RunLimits::NONE, &mut other).unwrap();
    assert_eq!(other.latents[0].len(), 4);
}

#[test]
fn changes_out_of_order_are_refused() {
    let mut pipeline = open(&cases().join("sd15/model"));
    for changes in [
        &[(0, "a")][..],
        &[(2, "a"), (2, "b")],
        &[(3, "a"), (1, "b")],
    ] {
        let jobs = [job("a red car", changes)];
        let error = pipeline.run(&jobs, RunLimits::NONE, &mut Steps::default());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("changes of the prompt")
        );
    }
}
