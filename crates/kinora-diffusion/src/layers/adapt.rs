//! Layers whose weights can be changed after loading, and back again: what adapters (LoRA and its
//! relatives) need of a layer, and what a layer needs of them.
//!
//! A layer knows the names of its tensors and where they came from. What changes them is told by a
//! [`TensorChanges`]; how that is computed is in [`crate::adapters`].

use candle_core::Tensor;

use crate::Result;

/// Changes of the tensors of one network.
pub trait TensorChanges {
    /// Whether a tensor is changed at all.
    fn is_changed(&self, name: &str) -> bool;

    /// The whole change of a matrix as a product of two thin ones. None when it is no such product.
    fn factors(&self, name: &str) -> Result<Option<Factors>>;

    /// A tensor with its changes. `base` and the result are f32 in main memory; the result may have
    /// more columns.
    fn apply(&self, name: &str, base: Tensor) -> Result<Tensor>;
}

/// `up · down` is added to a matrix.
#[derive(Clone, Debug)]
pub struct Factors {
    /// (rank, inputs), f32 in main memory
    pub down: Tensor,
    /// (outputs, rank), likewise
    pub up: Tensor,
}

/// A layer whose tensors can be changed.
pub trait Adaptable {
    /// The full names of its tensors.
    fn tensors(&self) -> Vec<String>;

    /// Bytes that it occupies now, with what changes it.
    fn bytes(&self) -> u64;

    /// Brings the layer from whatever it was changed to before to these changes. Without changes its
    /// tensors are read again from where they came from: the bytes are those of the beginning.
    fn adapt(&mut self, changes: &dyn TensorChanges) -> Result<()>;
}
