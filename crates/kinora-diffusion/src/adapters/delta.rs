//! What an adapter adds to a tensor, in f32. Shapes are those of [`kinora_weights::lora`].
//!
//! Formulas: LoRA <https://arxiv.org/abs/2106.09685>, LoHa and LoKr as in LyCORIS
//! <https://arxiv.org/abs/2309.14859>, DoRA <https://arxiv.org/abs/2402.09353>, GLoRA
//! <https://arxiv.org/abs/2306.07967>, (IA)³ <https://arxiv.org/abs/2205.05638>.

use candle_core::{Device, Tensor};
use kinora_weights::{
    Part, TensorView, WeightSet,
    decode::decode,
    lora::{Factor, Patch, PatchKind},
};

use super::rotation::Rotation;
use crate::{Error, Result, error::bail_shape, layers::Factors};

/// A patch, the file that its views are of, and the user's weight.
#[derive(Clone, Copy)]
pub(super) struct Weighted<'a> {
    pub set: &'a WeightSet,
    pub patch: &'a Patch,
    pub weight: f64,
}

/// A tensor with all its changes, each computed from the original.
pub(super) fn apply(patches: &[Weighted], base: Tensor) -> Result<Tensor> {
    let grown = patches
        .iter()
        .filter_map(|one| one.patch.grown_columns)
        .max();
    let base = match grown {
        Some(columns) if base.rank() == 2 && columns > base.dim(1)? => {
            base.pad_with_zeros(1, 0, columns - base.dim(1)?)?
        }
        _ => base,
    };
    let mut result = base.clone();
    for one in patches {
        result = match &one.patch.kind {
            PatchKind::Set(view) if one.weight == 1.0 => one.read(view)?.reshape(base.dims())?,
            PatchKind::Set(view) => {
                let new = one.read(view)?.reshape(base.dims())?;
                (result + ((new - &base)? * one.weight)?)?
            }
            _ => (result + one.weighted_change(&base)?)?,
        };
    }
    Ok(result)
}

impl Weighted<'_> {
    /// A stored tensor in f32.
    fn read(&self, view: &TensorView) -> Result<Tensor> {
        let mut numbers = vec![0f32; view.elements()];
        decode(view.dtype, &self.set.read_view(view)?, &mut numbers);
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(Error::bad_weights(
                self.set.path(),
                format!("what it adds to {} is not finite", self.patch.tensor),
            ));
        }
        Ok(Tensor::from_vec(
            numbers,
            view.shape.as_slice(),
            &Device::Cpu,
        )?)
    }

    /// Down and up with every scale in up, where nothing else is to be done.
    pub fn factors(&self) -> Result<Option<Factors>> {
        let patch = self.patch;
        let is_product = patch.dora_scale.is_none()
            && patch.grown_columns.is_none()
            && patch.part == Part::Whole;
        match &patch.kind {
            PatchKind::Lora {
                down,
                up,
                mid: None,
            } if is_product => Ok(Some(Factors {
                down: flat(&self.read(down)?)?,
                up: (flat(&self.read(up)?)? * (patch.scale * self.weight))?,
            })),
            _ => Ok(None),
        }
    }

    /// The change at the user's weight, in the shape of `base`.
    fn weighted_change(&self, base: &Tensor) -> Result<Tensor> {
        let (blocks, most, rescale, is_staged) = match &self.patch.kind {
            PatchKind::Oft {
                blocks,
                most,
                rescale,
            } => (blocks, most, rescale, false),
            PatchKind::Boft {
                blocks,
                most,
                rescale,
            } => (blocks, most, rescale, true),
            _ => return Ok((self.change(base)? * self.weight)?),
        };
        // Turning is not linear in the weight.
        let rotation = Rotation {
            blocks: self.read(blocks)?,
            most: *most,
            rescale: rescale.as_ref().map(|view| self.read(view)).transpose()?,
            is_staged,
        };
        rotation.change(base, self.weight)
    }

    /// The change at a weight of 1, in the shape of `base`.
    fn change(&self, base: &Tensor) -> Result<Tensor> {
        let patch = self.patch;
        let delta = match &patch.kind {
            PatchKind::Lora { down, up, mid } => {
                let (down, up) = (self.read(down)?, flat(&self.read(up)?)?);
                match mid {
                    Some(mid) => rebuild(&self.read(mid)?, &up.t()?.contiguous()?, &flat(&down)?)?,
                    None => up.matmul(&flat(&down)?)?,
                }
            }
            PatchKind::Loha {
                w1_a,
                w1_b,
                w2_a,
                w2_b,
                cores,
            } => {
                let product = |a: &TensorView, b: &TensorView, core: Option<&TensorView>| {
                    let (a, b) = (self.read(a)?, self.read(b)?);
                    match core {
                        Some(core) => rebuild(&self.read(core)?, &a, &b),
                        None => Ok(a.matmul(&flat(&b)?)?),
                    }
                };
                let (first, second) = cores
                    .as_ref()
                    .map_or((None, None), |(first, second)| (Some(first), Some(second)));
                (product(w1_a, w1_b, first)? * product(w2_a, w2_b, second)?)?
            }
            PatchKind::Lokr { w1, w2, core } => {
                let w1 = self.factor(w1)?;
                let w2 = match (core, w2) {
                    (Some(core), Factor::Product(left, right)) => {
                        rebuild(&self.read(core)?, &self.read(left)?, &self.read(right)?)?
                    }
                    _ => self.factor(w2)?,
                };
                kronecker(&w1, &w2, base)?
            }
            PatchKind::Glora {
                a1,
                a2,
                b1,
                b2,
                core,
            } => {
                let b = (self.read(b2)?, flat(&self.read(b1)?)?);
                let b = match core {
                    Some(core) => {
                        rebuild(&self.read(core)?, &b.1.t()?.contiguous()?, &flat(&b.0)?)?
                    }
                    None => b.1.matmul(&flat(&b.0)?)?,
                };
                let a = flat(&self.read(a1)?)?.matmul(&flat(&self.read(a2)?)?)?;
                (turn_inputs(base, &a)? + b.reshape(base.dims())?)?
            }
            PatchKind::Ia3 {
                factors,
                of_columns,
            } => {
                let mut shape = vec![1; base.rank()];
                shape[usize::from(*of_columns)] = factors.elements();
                base.broadcast_mul(&self.read(factors)?.reshape(shape)?)?
            }
            // Done above.
            PatchKind::Oft { .. } | PatchKind::Boft { .. } => {
                bail_shape!("a rotation is no sum")
            }
            PatchKind::Diff(view) | PatchKind::Set(view) => self.read(view)?,
        };
        let delta = (select(&delta, patch.part)?.reshape(base.dims())? * patch.scale)?;
        match &patch.dora_scale {
            Some(lengths) => renormalise(base, &delta, &self.read(lengths)?),
            None => Ok(delta),
        }
    }

    fn factor(&self, factor: &Factor) -> Result<Tensor> {
        match factor {
            Factor::Full(view) => self.read(view),
            Factor::Product(left, right) => {
                Ok(self.read(left)?.matmul(&flat(&self.read(right)?)?)?)
            }
        }
    }
}

/// (rows, everything else)
fn flat(tensor: &Tensor) -> Result<Tensor> {
    match tensor.rank() {
        2 => Ok(tensor.clone()),
        0 | 1 => bail_shape!("a factor of the shape {:?}", tensor.dims()),
        _ => Ok(tensor.flatten_from(1)?),
    }
}

/// W[o, j, k] = Σ base[o, i, k] · a[i, j]: only the inputs are turned.
fn turn_inputs(base: &Tensor, a: &Tensor) -> Result<Tensor> {
    if base.rank() == 2 {
        return Ok(base.matmul(a)?);
    }
    let (outputs, inputs) = (base.dim(0)?, base.dim(1)?);
    let kernels = base.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
    let positions = kernels.dim(1)?;
    Ok(kernels
        .reshape((outputs * positions, inputs))?
        .matmul(a)?
        .reshape((outputs, positions, inputs))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(base.dims())?)
}

/// W[o, i, k] = Σ core[p, q, k] · left[p, o] · right[q, i]: (outputs, inputs, positions).
fn rebuild(core: &Tensor, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let core = if core.rank() > 2 {
        core.flatten_from(2)?
    } else {
        core.unsqueeze(2)?
    };
    let (first, second, positions) = core.dims3()?;
    let (outputs, inputs) = (left.dim(1)?, right.dim(1)?);
    let half = left
        .t()?
        .contiguous()?
        .matmul(&core.reshape((first, second * positions))?)?
        .reshape((outputs, second, positions))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((outputs * positions, second))?;
    Ok(half
        .matmul(right)?
        .reshape((outputs, positions, inputs))?
        .transpose(1, 2)?
        .contiguous()?)
}

/// The Kronecker product of a matrix with a matrix or with kernels.
fn kronecker(left: &Tensor, right: &Tensor, base: &Tensor) -> Result<Tensor> {
    let (a, b) = left.dims2()?;
    let right = if right.rank() > 2 {
        right.flatten_from(2)?
    } else {
        right.unsqueeze(2)?
    };
    let (c, d, positions) = right.dims3()?;
    // The product of the factors' sizes is not bounded by the file's.
    let columns = b.checked_mul(d).and_then(|n| n.checked_mul(positions));
    if columns != Some(base.elem_count() / base.dim(0)?.max(1)) {
        bail_shape!(
            "the product of {:?} and {:?} beside a weight of {:?}",
            left.dims(),
            right.dims(),
            base.dims()
        );
    }
    let right = right.reshape((1, c, 1, d * positions))?;
    Ok(left
        .reshape((a, 1, b, 1))?
        .broadcast_mul(&right)?
        .reshape((a * c, b * d * positions))?)
}

/// The rows that belong to this tensor.
fn select(delta: &Tensor, part: Part) -> Result<Tensor> {
    match part {
        Part::Whole => Ok(delta.clone()),
        Part::Rows { start, len, of } => {
            let share = delta.dim(0)? / of.max(1);
            Ok(delta.narrow(0, start * share, len * share)?.contiguous()?)
        }
        Part::SwappedHalves => {
            let half = delta.dim(0)? / 2;
            Ok(Tensor::cat(
                &[delta.narrow(0, half, half)?, delta.narrow(0, 0, half)?],
                0,
            )?)
        }
        other => bail_shape!("the part {other:?} of a change"),
    }
}

/// What is to be added to `base` so that `base + delta` has these lengths, of its rows where there
/// is one for each row, of its columns otherwise. Those of a convolution are all numbers of one
/// output, or of one input.
fn renormalise(base: &Tensor, delta: &Tensor, lengths: &Tensor) -> Result<Tensor> {
    let (rows, columns) = (base.dim(0)?, base.dim(1)?);
    // A linear layer is a kernel of one position.
    let changed = (base + delta)?.reshape((rows, columns, ()))?;
    let count = lengths.elem_count();
    let is_by_row = count == rows && (lengths.rank() < 2 || lengths.dim(0)? == rows);
    let (shape, over) = match is_by_row {
        true => ((rows, 1, 1), [1, 2]),
        false if count == columns => ((1, columns, 1), [0, 2]),
        false => bail_shape!("lengths {:?} of a weight {:?}", lengths.dims(), base.dims()),
    };
    let norm = changed.sqr()?.sum_keepdim(over.as_slice())?.sqrt()?;
    let scale = (lengths.reshape(shape)? / (norm + f64::from(f32::EPSILON))?)?;
    Ok((changed.broadcast_mul(&scale)?.reshape(base.dims())? - base)?)
}
