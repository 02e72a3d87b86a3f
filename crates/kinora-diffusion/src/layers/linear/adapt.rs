//! A linear layer under adapters. A dense matrix is merged with its change, in the number format
//! of activations, so that nothing is lost to rounding and nothing is slower. A quantised one stays
//! as it is and gets a side branch, as long as the change is a product of thin matrices; otherwise
//! it is widened and merged.

use candle_core::{Device, Tensor};

use super::{Linear, Origin, Weight, borrow};
use crate::{
    Result,
    layers::adapt::{Adaptable, Factors, TensorChanges},
};

/// Two thin layers beside a matrix: y = … + up · (down · x).
#[derive(Debug)]
pub(super) struct Branch {
    down: Linear,
    up: Linear,
}

impl Branch {
    /// Several changes of several parts of a stacked layer as one: ranks one after another.
    /// `parts` are (first output, factors).
    fn join(parts: Vec<(usize, Factors)>, outputs: usize, linear: &Origin) -> Result<Self> {
        let (device, dtype) = (linear.weights.device(), linear.weights.dtype());
        let mut downs = Vec::new();
        let mut ups = Vec::new();
        for (first, Factors { down, up }) in parts {
            let last = outputs - first - up.dim(0)?;
            ups.push(up.pad_with_zeros(0, first, last)?);
            downs.push(down);
        }
        let load = |tensor: Tensor| -> Result<Linear> {
            Linear::new(
                tensor.to_dtype(dtype)?.to_device(device)?.contiguous()?,
                None,
            )
        };
        Ok(Self {
            down: load(Tensor::cat(&downs, 0)?)?,
            up: load(Tensor::cat(&ups, 1)?)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.up.forward(&self.down.forward(x)?)
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        self.down.bytes() + self.up.bytes()
    }
}

impl Adaptable for Linear {
    fn tensors(&self) -> Vec<String> {
        self.origin.as_ref().map_or(Vec::new(), |origin| {
            let (weights, biases) = origin.names();
            let full = |(name, _): &(String, usize)| origin.weights.full_name(name);
            weights.iter().chain(&biases).map(full).collect()
        })
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        let Some(origin) = self.origin.clone() else {
            return Ok(());
        };
        let (weights, biases) = origin.names();
        let is_changed = |names: &[(String, usize)]| {
            let mut full = names.iter().map(|(name, _)| origin.weights.full_name(name));
            full.any(|name| changes.is_changed(&name))
        };
        self.adapt_matrix(&origin, &weights, is_changed(&weights), changes)?;
        if is_changed(&biases) {
            self.bias = Some(origin.merge(&biases, false, changes)?);
            self.has_merged_bias = true;
        } else if self.has_merged_bias {
            self.bias = origin.load_bias()?;
            self.has_merged_bias = false;
        }
        Ok(())
    }
}

impl Linear {
    fn adapt_matrix(
        &mut self,
        origin: &Origin,
        names: &[(String, usize)],
        is_changed: bool,
        changes: &dyn TensorChanges,
    ) -> Result<()> {
        let factors = if is_changed && origin.is_kept_stored(names) {
            origin.factors(names, changes)?
        } else {
            None
        };
        self.branch = None;
        if is_changed && factors.is_none() {
            let merged = origin.merge(names, true, changes)?;
            self.inputs = merged.dim(1)?;
            self.weight = Weight::keep(merged)?;
            self.is_merged = true;
            return Ok(());
        }
        if self.is_merged {
            self.weight = origin.load_matrix()?;
            self.inputs = origin.inputs();
            self.is_merged = false;
        }
        if let Some(parts) = factors {
            self.branch = Some(Branch::join(parts, self.outputs, origin)?.into());
        }
        Ok(())
    }
}

impl Origin {
    /// Whether the matrix of these parts stays as it is in its file.
    fn is_kept_stored(&self, names: &[(String, usize)]) -> bool {
        self.weights.keeps_stored()
            && !self.is_kernel()
            && names
                .iter()
                .any(|(name, _)| self.weights.is_quantised(name))
    }

    /// First output and factors of every changed part; None when one is no product.
    fn factors(
        &self,
        names: &[(String, usize)],
        changes: &dyn TensorChanges,
    ) -> Result<Option<Vec<(usize, Factors)>>> {
        let mut first = 0;
        let mut parts = Vec::new();
        for (name, outputs) in names {
            let full = self.weights.full_name(name);
            if changes.is_changed(&full) {
                let Some(factors) = changes.factors(&full)? else {
                    return Ok(None);
                };
                if factors.down.dim(1)? != self.inputs() {
                    return Ok(None);
                }
                parts.push((first, factors));
            }
            first += outputs;
        }
        Ok(Some(parts))
    }

    /// The parts with their changes, one after another, in the number format of activations.
    /// They are matrices or vectors.
    fn merge(
        &self,
        names: &[(String, usize)],
        is_matrix: bool,
        changes: &dyn TensorChanges,
    ) -> Result<Tensor> {
        let mut merged = Vec::with_capacity(names.len());
        for (name, outputs) in borrow(names) {
            let shape = match is_matrix {
                true => self.shape(outputs),
                false => vec![outputs],
            };
            let base = self.weights.get_plain(name, &shape)?;
            let full = self.weights.full_name(name);
            let part = if changes.is_changed(&full) {
                changes.apply(&full, base)?
            } else {
                base
            };
            merged.push(match is_matrix {
                true => part.flatten_from(1)?,
                false => part,
            });
        }
        // A part that grew tells how wide the others are.
        if is_matrix {
            let widths = merged
                .iter()
                .map(|part| Ok(part.dim(1)?))
                .collect::<Result<Vec<_>>>()?;
            let widest = widths.iter().copied().max().unwrap_or(0);
            for (part, width) in merged.iter_mut().zip(widths) {
                *part = part.pad_with_zeros(1, 0, widest - width)?;
            }
        }
        debug_assert!(
            merged
                .iter()
                .all(|part| part.device().same_device(&Device::Cpu))
        );
        Ok(Tensor::cat(&merged, 0)?
            .to_dtype(self.weights.dtype())?
            .to_device(self.weights.device())?
            .contiguous()?)
    }
}
