//! What a run does between the calls of its network, as numbers: everything that depends on the
//! schedule alone, worked out once before the first step. No tensors here.

use super::mix::{Mix, Operand};
use crate::{Error, Result};

/// The part of a run from one call of the network to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What the network is told about the noise.
    pub timestep: f64,
    /// The noise level of the latents that go in, in the sampler's own measure.
    pub sigma: f64,
    /// The latents go into the network times this.
    pub input_scale: f64,
    /// Which of the asked steps it belongs to. Rules of second order call twice a step.
    pub step: usize,
    /// How many times noise is drawn; the last draw is used.
    pub draws: usize,
    /// The clean picture as it looks now, of latents and output: for previews and guidance.
    pub clean: Mix,
    /// Worked out first and cut off at ± the limit; then [`Operand::Clipped`].
    pub clip: Option<(Mix, f64)>,
    /// The latents of the next call.
    pub next: Mix,
    /// What is put into which slot. Reads see the slots as they were before the call.
    pub keeps: Vec<(usize, Mix)>,
    /// The slots that a later call reads.
    pub(super) live: Vec<usize>,
}

impl Call {
    /// A call that only moves the latents.
    pub fn new(timestep: f64, sigma: f64, step: usize, clean: Mix, next: Mix) -> Self {
        let draws = usize::from(next.weight(Operand::Noise) != 0.0);
        Self {
            timestep,
            sigma,
            input_scale: 1.0,
            step,
            draws,
            clean,
            clip: None,
            next,
            keeps: Vec::new(),
            live: Vec::new(),
        }
    }

    /// Slots that must survive the call.
    pub fn live(&self) -> &[usize] {
        &self.live
    }

    /// The mixes that the call works out, with the clipped estimate first.
    fn mixes(&self) -> impl Iterator<Item = &Mix> {
        let clip = self.clip.iter().map(|(mix, _)| mix);
        clip.chain([&self.next])
            .chain(self.keeps.iter().map(|(_, mix)| mix))
    }

    fn is_finite(&self) -> bool {
        self.mixes().chain([&self.clean]).all(Mix::is_finite)
            && [self.timestep, self.sigma, self.input_scale]
                .iter()
                .all(|number| number.is_finite())
    }
}

/// A whole run as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// One for each call of the network, in order.
    pub calls: Vec<Call>,
    /// Noise levels before each call and after the last, as the reference library lists them.
    /// Empty where it has no such list.
    pub sigmas: Vec<f32>,
    /// What the starting noise is multiplied with.
    pub initial_scale: f64,
    /// Weights of picture and noise in the latents that a run starts from which begins with a
    /// picture, for the first call of this program.
    pub start: (f64, f64),
}

impl Program {
    /// Puts calls together.
    ///
    /// # Errors
    /// Weights that are not finite: the settings do not go together.
    pub fn new(
        mut calls: Vec<Call>,
        sigmas: Vec<f32>,
        initial_scale: f64,
        start: (f64, f64),
    ) -> Result<Self> {
        if let Some(call) = calls.iter().find(|call| !call.is_finite()) {
            return Err(Error::BadRequest(format!(
                "the sampler's settings do not go together: step {} has no finite result",
                call.step + 1
            )));
        }
        let mut live: Vec<usize> = Vec::new();
        for call in calls.iter_mut().rev() {
            call.keeps.retain(|(slot, _)| live.contains(slot));
            call.live = live.clone();
            live.retain(|slot| call.keeps.iter().all(|(kept, _)| kept != slot));
            let read = call.mixes().flat_map(Mix::terms);
            let read: Vec<usize> = read
                .filter_map(|(operand, _)| match operand {
                    Operand::Kept(slot) => Some(*slot),
                    _ => None,
                })
                .collect();
            live.extend(read);
            live.sort_unstable();
            live.dedup();
        }
        if let Some(slot) = live.first() {
            return Err(Error::BadRequest(format!(
                "the sampler's settings do not go together: the first step reads slot {slot}"
            )));
        }
        Ok(Self {
            calls,
            sigmas,
            initial_scale,
            start,
        })
    }

    /// What the network is told, call by call.
    pub fn timesteps(&self) -> Vec<f64> {
        self.calls.iter().map(|call| call.timestep).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(next: Mix, keeps: Vec<(usize, Mix)>) -> Call {
        Call {
            keeps,
            ..Call::new(1.0, 1.0, 0, Mix::latents(), next)
        }
    }

    #[test]
    fn only_what_is_read_later_is_kept() {
        let calls = vec![
            call(
                Mix::output(),
                vec![(0, Mix::output()), (1, Mix::latents()), (2, Mix::noise())],
            ),
            call(Mix::kept(1), vec![(0, Mix::output())]),
            call(Mix::kept(0) + Mix::latents(), vec![(1, Mix::output())]),
        ];
        let program = Program::new(calls, Vec::new(), 1.0, (1.0, 0.0)).unwrap();
        let live: Vec<&[usize]> = program.calls.iter().map(Call::live).collect();
        assert_eq!(live, [&[1][..], &[0], &[]]);
        let kept: Vec<usize> = program.calls.iter().map(|call| call.keeps.len()).collect();
        assert_eq!(kept, [1, 1, 0]);
    }

    #[test]
    fn what_cannot_be_worked_out_is_refused() {
        let refuse = |next: Mix| {
            Program::new(vec![call(next, vec![])], Vec::new(), 1.0, (1.0, 0.0)).unwrap_err()
        };
        assert!(matches!(refuse(Mix::kept(0)), Error::BadRequest(_)));
        assert!(matches!(refuse(Mix::output() / 0.0), Error::BadRequest(_)));
    }
}
