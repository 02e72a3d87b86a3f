//! Convolutions under adapters: the kernel is merged with its change and packed again, and read
//! again when the change is taken back.

use std::sync::OnceLock;

use super::{Conv2d, Enlarging, Packing};
use crate::{
    Result,
    layers::{
        adapt::{Adaptable, TensorChanges},
        weights::Weights,
    },
};

/// Where a convolution was read.
#[derive(Debug)]
pub(super) struct Origin {
    weights: Weights,
    packing: Packing,
}

impl Origin {
    pub fn new(weights: &Weights, packing: Packing) -> Self {
        Self {
            weights: weights.clone(),
            packing,
        }
    }
}

impl Adaptable for Conv2d {
    fn tensors(&self) -> Vec<String> {
        let origin = self.origin.iter();
        origin
            .flat_map(|origin| ["weight", "bias"].map(|name| origin.weights.full_name(name)))
            .collect()
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        let Some(origin) = self.origin.clone() else {
            return Ok(());
        };
        let Origin { weights, packing } = &*origin;
        let (outputs, inputs, height, width) = self.shape;
        let shape = [outputs, inputs, height, width];
        let merge = |name: &str, shape: &[usize]| -> Result<_> {
            let full = weights.full_name(name);
            if !changes.is_changed(&full) {
                return Ok(None);
            }
            let merged = changes.apply(&full, weights.get_plain(name, shape)?)?;
            let merged = merged.to_dtype(weights.dtype())?;
            Ok(Some(merged.to_device(weights.device())?.contiguous()?))
        };
        match merge("bias", &shape[..1])? {
            Some(bias) => {
                self.bias = bias;
                self.has_merged_bias = true;
            }
            None if self.has_merged_bias => {
                self.bias = weights.get("bias", &shape[..1])?;
                self.has_merged_bias = false;
            }
            None => {}
        }
        match merge("weight", &shape)? {
            Some(weight) => {
                self.kernel = self.keep(weight, *packing)?;
                self.is_merged = true;
            }
            None if self.is_merged => {
                self.kernel = self.keep(packing.load(weights, &shape)?, *packing)?;
                self.is_merged = false;
            }
            None => {}
        }
        Ok(())
    }
}

impl Adaptable for Enlarging {
    fn tensors(&self) -> Vec<String> {
        self.conv.tensors()
    }

    fn bytes(&self) -> u64 {
        self.conv.bytes()
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        // Made of the kernel as it was.
        self.plain = OnceLock::new();
        self.conv.adapt(changes)
    }
}
