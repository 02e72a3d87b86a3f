//! Latents on their way through a program, and their state between two calls.

mod kernels;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use self::kernels::sum_on_device;
use super::{
    mix::Operand,
    program::{Call, Program},
};
use crate::{Error, Result, error::bail_shape, layers::is_cpu_f32, noise::Generator};

/// Latents of one or several pictures (rows of the first dimension) between two calls.
#[derive(Clone, Debug)]
pub struct Run {
    program: Arc<Program>,
    /// Calls that are done.
    done: usize,
    /// f32, any shape.
    latents: Tensor,
    /// By slot; what no later call reads is let go.
    kept: Vec<Option<Tensor>>,
}

/// A run between two calls, in plain numbers: what a checkpoint stores.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Calls of the network that are done.
    pub calls: u32,
    /// Shape of the latents and of everything kept.
    pub shape: Vec<usize>,
    /// The latents.
    pub latents: Vec<f32>,
    /// What later calls read, by slot.
    pub kept: Vec<(u32, Vec<f32>)>,
}

impl Run {
    /// Begins with noise, which it scales as the program says, or with latents that were mixed by
    /// [`Program::start`] (then `is_mixed`).
    pub fn start(program: Arc<Program>, latents: &Tensor, is_mixed: bool) -> Result<Self> {
        let latents = latents.to_dtype(DType::F32)?;
        let latents = if is_mixed || program.initial_scale == 1.0 {
            latents
        } else {
            latents.affine(program.initial_scale, 0.0)?
        };
        Ok(Self {
            program,
            done: 0,
            latents: latents.contiguous()?,
            kept: Vec::new(),
        })
    }

    /// Goes on where a state was taken.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when the state does not belong to the program.
    pub fn resume(program: Arc<Program>, state: &State, device: &Device) -> Result<Self> {
        let damaged = |what: &str| Err(Error::BadCheckpoint(what.to_owned()));
        let done = state.calls as usize;
        let live: &[usize] = match done.checked_sub(1).map(|last| program.calls.get(last)) {
            None => &[],
            Some(Some(call)) => call.live(),
            Some(None) => return damaged("it has more steps than the run"),
        };
        let slots: Vec<usize> = state.kept.iter().map(|(slot, _)| *slot as usize).collect();
        if slots != live {
            return damaged("it keeps other tensors than the sampler needs");
        }
        let sizes = state.shape.iter();
        let count = sizes.copied().try_fold(1usize, usize::checked_mul);
        let all = state.kept.iter().map(|(_, values)| values.len());
        if all
            .chain([state.latents.len()])
            .any(|len| Some(len) != count)
        {
            return damaged("its tensors have another size than it says");
        }
        let tensor = |values: &[f32]| Tensor::from_slice(values, state.shape.as_slice(), device);
        let mut kept = Vec::new();
        for (slot, values) in &state.kept {
            put(&mut kept, *slot as usize, tensor(values)?);
        }
        Ok(Self {
            latents: tensor(&state.latents)?,
            program,
            done,
            kept,
        })
    }

    /// The state of one row.
    pub fn state(&self, row: usize) -> Result<State> {
        let values = |tensor: &Tensor| -> Result<Vec<f32>> {
            Ok(tensor.narrow(0, row, 1)?.flatten_all()?.to_vec1()?)
        };
        let mut shape = self.latents.dims().to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = 1;
        }
        let kept = self.kept.iter().zip(0u32..);
        let kept = kept.filter_map(|(tensor, slot)| Some((slot, tensor.as_ref()?)));
        Ok(State {
            calls: self.done as u32,
            shape,
            latents: values(&self.latents)?,
            kept: kept
                .map(|(slot, tensor)| Ok((slot, values(tensor)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// The next call of the network; none when the run is over.
    pub fn call(&self) -> Option<&Call> {
        self.program.calls.get(self.done)
    }

    /// Calls that are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The latents now: f32, at the end of the run the clean ones.
    pub fn latents(&self) -> &Tensor {
        &self.latents
    }

    /// Puts other latents in place of these, such as some with a part of a picture put back.
    pub fn replace_latents(&mut self, latents: Tensor) -> Result<()> {
        if latents.dims() != self.latents.dims() {
            bail_shape!("{:?} in place of {:?}", latents.dims(), self.latents.dims());
        }
        self.latents = latents.to_dtype(DType::F32)?.contiguous()?;
        Ok(())
    }

    /// The latents as they go into the network.
    pub fn input(&self) -> Result<Tensor> {
        match self.call() {
            Some(call) if call.input_scale != 1.0 => {
                Ok(self.latents.affine(call.input_scale, 0.0)?)
            }
            _ => Ok(self.latents.clone()),
        }
    }

    /// The noise that the next call wants: as many draws as the reference makes, each row from its
    /// own generator, the last draw of each.
    pub fn draw(&self, generators: &mut [Generator]) -> Result<Option<Tensor>> {
        let draws = self.call().map_or(0, |call| call.draws);
        if draws == 0 {
            return Ok(None);
        }
        let shape = self.latents.shape();
        if self.latents.dim(0)? != generators.len() {
            bail_shape!("{} generators for {shape:?}", generators.len());
        }
        let mut noise = vec![0f32; shape.elem_count()];
        let row = noise.len() / generators.len().max(1);
        for (part, generator) in noise.chunks_mut(row.max(1)).zip(generators) {
            for _ in 0..draws {
                generator.fill_normal(part);
            }
        }
        Ok(Some(Tensor::from_vec(noise, shape, self.latents.device())?))
    }

    /// The clean picture as it looks with this answer of the next call: latents to preview.
    pub fn look_ahead(&self, output: &Tensor) -> Result<Tensor> {
        let Some(call) = self.call() else {
            return Ok(self.latents.clone());
        };
        let output = output.to_dtype(DType::F32)?;
        let read = |operand| match operand {
            Operand::Latents => Some(&self.latents),
            _ => Some(&output),
        };
        sum_on_device(&call.clean, &read, &self.latents)
    }

    /// Takes the network's answer, and fresh noise where the call draws any, to the next call.
    ///
    /// `output` has the shape of the latents, in any float format.
    pub fn advance(&mut self, output: &Tensor, noise: Option<&Tensor>) -> Result<()> {
        let program = Arc::clone(&self.program);
        let Some(call) = program.calls.get(self.done) else {
            return Err(Error::BadRequest("the run is over".to_owned()));
        };
        if output.dims() != self.latents.dims() {
            bail_shape!(
                "the network answered {:?} to {:?}",
                output.dims(),
                self.latents.dims()
            );
        }
        if call.draws > 0 && noise.is_none_or(|noise| noise.dims() != self.latents.dims()) {
            bail_shape!("this step needs noise of {:?}", self.latents.dims());
        }
        let output = output.to_dtype(DType::F32)?.contiguous()?;
        let noise = noise
            .map(|noise| noise.to_dtype(DType::F32)?.contiguous())
            .transpose()?;
        let (latents, kept) = if is_cpu_f32(&self.latents) && output.device().is_cpu() {
            self.work_out_on_cpu(call, &output, noise.as_ref())?
        } else {
            self.work_out_on_device(call, &output, noise.as_ref())?
        };
        self.latents = latents;
        for (slot, tensor) in kept {
            put(&mut self.kept, slot, tensor);
        }
        for (slot, tensor) in self.kept.iter_mut().enumerate() {
            if !call.live().contains(&slot) {
                *tensor = None;
            }
        }
        self.done += 1;
        Ok(())
    }

    /// Keeps only some rows, by their indices.
    pub fn select(&mut self, rows: &Tensor) -> Result<()> {
        self.latents = self.latents.index_select(rows, 0)?;
        for tensor in self.kept.iter_mut().flatten() {
            *tensor = tensor.index_select(rows, 0)?;
        }
        Ok(())
    }

    /// One row as a run of its own.
    pub fn row(&self, row: usize) -> Result<Self> {
        let one = |tensor: &Tensor| tensor.narrow(0, row, 1)?.contiguous();
        let kept = self.kept.iter().map(|tensor| tensor.as_ref().map(one));
        Ok(Self {
            program: Arc::clone(&self.program),
            done: self.done,
            latents: one(&self.latents)?,
            kept: kept
                .map(Option::transpose)
                .collect::<candle_core::Result<_>>()?,
        })
    }

    /// Runs of one program that stand at the same call, as one.
    pub fn join(runs: &[&Self]) -> Result<Self> {
        let Some(first) = runs.first() else {
            bail_shape!("there is no run to join");
        };
        let is_alike = |other: &&Self| other.done == first.done && other.program == first.program;
        if !runs.iter().all(is_alike) {
            bail_shape!("runs of different programs cannot go on together");
        }
        let cat = |pick: &dyn Fn(&Self) -> Option<Tensor>| -> Result<Option<Tensor>> {
            let parts: Option<Vec<Tensor>> = runs.iter().map(|run| pick(run)).collect();
            Ok(parts.map(|parts| Tensor::cat(&parts, 0)).transpose()?)
        };
        let latents = cat(&|run| Some(run.latents.clone()))?;
        let kept = (0..first.kept.len())
            .map(|slot| cat(&|run| run.kept.get(slot).cloned().flatten()))
            .collect::<Result<_>>()?;
        Ok(Self {
            program: Arc::clone(&first.program),
            done: first.done,
            latents: latents.unwrap_or_else(|| first.latents.clone()),
            kept,
        })
    }
}

fn put(kept: &mut Vec<Option<Tensor>>, slot: usize, tensor: Tensor) {
    if kept.len() <= slot {
        kept.resize(slot + 1, None);
    }
    kept[slot] = Some(tensor);
}
