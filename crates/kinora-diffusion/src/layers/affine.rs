//! Scale and shift of a norm, under adapters.

use candle_core::Tensor;

use super::{
    adapt::{Adaptable, TensorChanges},
    weights::Weights,
};
use crate::Result;

/// `weight` and `bias` of a norm, both (size), f32. Adapters change either and take it back.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub weight: Tensor,
    pub bias: Tensor,
    /// Where they were read; None when they were made from tensors.
    origin: Option<Weights>,
    /// Whether adapters changed one of them.
    is_merged: bool,
}

impl Affine {
    /// `weight` and `bias` below `weights`.
    pub fn load(weights: &Weights, size: usize) -> Result<Self> {
        Ok(Self {
            weight: weights.get_f32("weight", &[size])?,
            bias: weights.get_f32("bias", &[size])?,
            origin: Some(weights.clone()),
            is_merged: false,
        })
    }

    /// From tensors that no adapter changes.
    #[cfg(test)]
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        Self {
            weight,
            bias,
            origin: None,
            is_merged: false,
        }
    }
}

impl Adaptable for Affine {
    fn tensors(&self) -> Vec<String> {
        let origin = self.origin.iter();
        origin
            .flat_map(|weights| ["weight", "bias"].map(|name| weights.full_name(name)))
            .collect()
    }

    fn bytes(&self) -> u64 {
        // Two vectors of f32.
        4 * (self.weight.elem_count() + self.bias.elem_count()) as u64
    }

    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()> {
        let Some(weights) = &self.origin else {
            return Ok(());
        };
        let names = ["weight", "bias"];
        let is_changed = names
            .iter()
            .any(|name| changes.is_changed(&weights.full_name(name)));
        if !is_changed && !self.is_merged {
            return Ok(());
        }
        for (name, tensor) in names.into_iter().zip([&mut self.weight, &mut self.bias]) {
            let full = weights.full_name(name);
            let mut plain = weights.get_plain(name, tensor.dims())?;
            if changes.is_changed(&full) {
                plain = changes.apply(&full, plain)?;
            }
            *tensor = plain.to_device(weights.device())?;
        }
        self.is_merged = is_changed;
        Ok(())
    }
}
