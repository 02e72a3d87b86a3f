//! Working a call out: as one pass over memory on a processor, as a chain of candle operations on
//! other devices.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{
    super::{
        mix::{Mix, Operand},
        program::Call,
    },
    Run,
};
use crate::{Result, error::bail_shape, layers::f32s};

/// Numbers of a piece: a few of them fit into the first cache.
const PIECE: usize = 4096;

/// The next latents, and what goes into which slot.
pub(super) type Outcome = (Tensor, Vec<(usize, Tensor)>);

impl Run {
    pub(super) fn work_out_on_cpu(
        &self,
        call: &Call,
        output: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Outcome> {
        let latents = self.latents.contiguous()?;
        let kept: Vec<Option<Tensor>> = self
            .kept
            .iter()
            .map(|tensor| tensor.as_ref().map(Tensor::contiguous).transpose())
            .collect::<candle_core::Result<_>>()?;
        let count = latents.elem_count();
        let own = f32s(&latents)?;
        let answer = f32s(output)?;
        let noise = noise.map(f32s).transpose()?;
        let kept = kept
            .iter()
            .map(|tensor| tensor.as_ref().map(f32s).transpose())
            .collect::<Result<Vec<_>>>()?;
        let read = |operand| -> Option<&[f32]> {
            match operand {
                Operand::Latents => Some(&own),
                Operand::Output => Some(&answer),
                Operand::Noise => noise.as_deref(),
                Operand::Kept(slot) => kept.get(slot)?.as_deref(),
                Operand::Clipped => None,
            }
        };
        let sums: Vec<&Mix> = [&call.next]
            .into_iter()
            .chain(call.keeps.iter().map(|(_, mix)| mix))
            .collect();
        let mut results: Vec<Vec<f32>> = sums.iter().map(|_| vec![0f32; count]).collect();
        // Piece after piece of all results, so that each piece of an operand is read once.
        let mut pieces: Vec<(usize, Vec<&mut [f32]>)> = (0..count.div_ceil(PIECE))
            .map(|piece| (piece * PIECE, Vec::with_capacity(sums.len())))
            .collect();
        for result in &mut results {
            for (piece, part) in pieces.iter_mut().zip(result.chunks_mut(PIECE)) {
                piece.1.push(part);
            }
        }
        pieces.par_iter_mut().for_each(|(start, parts)| {
            let mut clipped = Vec::new();
            if let Some((mix, limit)) = &call.clip {
                let len = parts.first().map_or(0, |part| part.len());
                clipped = vec![0f32; len];
                sum_piece(mix, &read, *start, &[], &mut clipped);
                let limit = *limit as f32;
                for value in &mut clipped {
                    *value = value.clamp(-limit, limit);
                }
            }
            for (mix, part) in sums.iter().zip(parts) {
                sum_piece(mix, &read, *start, &clipped, part);
            }
        });
        let shape = latents.shape();
        let mut tensors = results
            .into_iter()
            .map(|values| Tensor::from_vec(values, shape, latents.device()));
        let next = tensors.next().transpose()?.unwrap_or(latents.clone());
        let kept = call
            .keeps
            .iter()
            .zip(tensors)
            .map(|((slot, _), tensor)| Ok((*slot, tensor?)))
            .collect::<Result<_>>()?;
        Ok((next, kept))
    }

    pub(super) fn work_out_on_device(
        &self,
        call: &Call,
        output: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Outcome> {
        let read = |operand| match operand {
            Operand::Latents => Some(&self.latents),
            Operand::Output => Some(output),
            Operand::Noise => noise,
            Operand::Kept(slot) => self.kept.get(slot)?.as_ref(),
            Operand::Clipped => None,
        };
        let clipped = match &call.clip {
            Some((mix, limit)) => {
                let estimate = sum_on_device(mix, &read, &self.latents)?;
                Some(estimate.clamp(-*limit as f32, *limit as f32)?)
            }
            None => None,
        };
        let read = |operand| match operand {
            Operand::Clipped => clipped.as_ref(),
            other => read(other),
        };
        let next = sum_on_device(&call.next, &read, &self.latents)?;
        let kept = call
            .keeps
            .iter()
            .map(|(slot, mix)| Ok((*slot, sum_on_device(mix, &read, &self.latents)?)))
            .collect::<Result<_>>()?;
        Ok((next, kept))
    }
}

/// One piece of a weighted sum. Operands that are not there count as zero; programs name none.
fn sum_piece<'a>(
    mix: &Mix,
    read: &(impl Fn(Operand) -> Option<&'a [f32]> + Sync),
    start: usize,
    clipped: &[f32],
    out: &mut [f32],
) {
    let mut is_first = true;
    for (operand, weight) in mix.terms() {
        let weight = *weight as f32;
        let values = match operand {
            Operand::Clipped => Some(clipped),
            other => read(*other).and_then(|all| all.get(start..start + out.len())),
        };
        let Some(values) = values else { continue };
        if is_first {
            for (out, value) in out.iter_mut().zip(values) {
                *out = weight * value;
            }
        } else {
            for (out, value) in out.iter_mut().zip(values) {
                *out += weight * value;
            }
        }
        is_first = false;
    }
}

/// The same as a chain of operations on any device.
pub(super) fn sum_on_device<'a>(
    mix: &Mix,
    read: &impl Fn(Operand) -> Option<&'a Tensor>,
    like: &Tensor,
) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (operand, weight) in mix.terms() {
        let Some(tensor) = read(*operand) else {
            bail_shape!("{operand:?} is missing");
        };
        let scaled = if *weight == 1.0 {
            tensor.clone()
        } else {
            tensor.affine(*weight, 0.0)?
        };
        sum = Some(match sum {
            Some(sum) => (sum + scaled)?,
            None => scaled,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => Ok(like.zeros_like()?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;

    use super::*;
    use crate::{
        noise::Generator,
        samplers::{Config, Options},
    };

    /// Both ways of working a call out give the same within rounding, the clipped estimate and
    /// what is kept included.
    #[test]
    fn the_chain_of_operations_gives_what_the_kernel_gives() {
        for class in [
            "DDPMScheduler",
            "UniPCMultistepScheduler",
            "LMSDiscreteScheduler",
            "HeunDiscreteScheduler",
            "PNDMScheduler",
        ] {
            let json = r#"{"clip_sample": true, "beta_schedule": "scaled_linear"}"#;
            let config = Config::parse_as(class, json).unwrap();
            let program = Arc::new(config.program(&Options::steps(5)).unwrap());
            let normals = |seed| {
                let mut values = vec![0f32; 2 * 3001];
                Generator::new(kinora_core::Rng::Cpu, seed).fill_normal(&mut values);
                Tensor::from_vec(values, (2, 3001), &Device::Cpu).unwrap()
            };
            let mut run = Run::start(program, &normals(1), false).unwrap();
            let mut seed = 2;
            while let Some(call) = run.call() {
                let (output, noise) = (normals(seed), normals(seed + 1));
                seed += 2;
                let (next, kept) = run.work_out_on_cpu(call, &output, Some(&noise)).unwrap();
                let (other, others) = run.work_out_on_device(call, &output, Some(&noise)).unwrap();
                assert_eq!(kept.len(), others.len());
                let slots = kept.iter().zip(&others);
                let pairs = slots.map(|((slot, ours), (other, theirs))| {
                    assert_eq!(slot, other);
                    (ours, theirs)
                });
                for (ours, theirs) in pairs.chain([(&next, &other)]) {
                    let difference = (ours - theirs).unwrap().abs().unwrap();
                    let worst = difference.flatten_all().unwrap().max(0).unwrap();
                    let worst = worst.to_scalar::<f32>().unwrap();
                    assert!(worst < 1e-4, "{class}: off by {worst}");
                }
                run.advance(&output, Some(&noise)).unwrap();
            }
        }
    }
}
