//! What an adapter does to one tensor of a model.

use super::LoraComponent;
use crate::{Part, TensorView};

/// A change of one tensor. Views are of the adapter's file ([`super::LoraFile::set`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The component.
    pub component: LoraComponent,
    /// Canonical name of the tensor that changes, with its `.weight` or `.bias`.
    pub tensor: String,
    /// How it changes.
    pub kind: PatchKind,
    /// What of the computed change belongs to this tensor. [`Part::Whole`] for everything but LoHa
    /// and LoKr on fused layers, whose factors cannot be cut beforehand.
    pub part: Part,
    /// What the computed change is multiplied by, besides the user's weight: alpha divided by the
    /// rank; 1 without an alpha. Differences and replacements are never scaled so, but for the bias
    /// of a second factor.
    pub scale: f64,
    /// Lengths of the rows (or columns) of the changed weight (DoRA): the weight plus its change is
    /// brought to them.
    pub dora_scale: Option<TensorView>,
    /// Columns that the changed weight has, when they are more than the model's (control adapters
    /// widen the first layer); the model's weight is padded with zeros.
    pub grown_columns: Option<usize>,
}

/// How a tensor changes. Matrices of convolutions have their further dimensions after the second.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchKind {
    /// W + s·(up · down); with `mid` of a convolution, up and down are applied to its first two
    /// dimensions.
    Lora {
        /// (rank, inputs …)
        down: TensorView,
        /// (outputs, rank)
        up: TensorView,
        /// (rank, rank, rows, columns)
        mid: Option<TensorView>,
    },
    /// W + s·((w1_a · w1_b) ∘ (w2_a · w2_b)), or with Tucker cores in between.
    Loha {
        /// (outputs, rank); with cores (rank, outputs).
        w1_a: TensorView,
        /// (rank, inputs)
        w1_b: TensorView,
        /// As the first.
        w2_a: TensorView,
        /// As the first.
        w2_b: TensorView,
        /// (rank, rank, rows, columns), twice.
        cores: Option<(TensorView, TensorView)>,
    },
    /// W + s·(w1 ⊗ w2), reshaped to W.
    Lokr {
        /// Left factor.
        w1: Factor,
        /// Right factor.
        w2: Factor,
        /// Core of the right factor of a convolution.
        core: Option<TensorView>,
    },
    /// W + difference.
    Diff(TensorView),
    /// In the place of W.
    Set(TensorView),
}

/// A factor of a Kronecker product.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// Stored whole.
    Full(TensorView),
    /// Stored as a product of two.
    Product(TensorView, TensorView),
}

impl PatchKind {
    /// Its usual name.
    pub fn title(&self) -> &'static str {
        match self {
            PatchKind::Lora { .. } => "LoRA",
            PatchKind::Loha { .. } => "LoHa",
            PatchKind::Lokr { .. } => "LoKr",
            PatchKind::Diff(_) => "difference",
            PatchKind::Set(_) => "replacement",
        }
    }
}
