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
    /// W + s·(W · a1 · a2 + b1 · b2), W's further dimensions left alone in the first product.
    Glora {
        /// (inputs, rank)
        a1: TensorView,
        /// (rank, inputs)
        a2: TensorView,
        /// (outputs, rank)
        b1: TensorView,
        /// (rank, inputs …)
        b2: TensorView,
        /// (rank, rank, rows, columns) between the latter two of a convolution.
        core: Option<TensorView>,
    },
    /// Rows are turned in blocks, Rᵀ·W with R = (1 + Q)(1 − Q)⁻¹ and Q = B − Bᵀ.
    Oft {
        /// B: (blocks, size, size)
        blocks: TensorView,
        /// The largest length of Q, all blocks together; longer ones are shortened. 0: any.
        most: f64,
        /// What the turned rows are multiplied by.
        rescale: Option<TensorView>,
    },
    /// Rows are turned in stages, each of blocks whose rows lie further apart: R·W of each.
    Boft {
        /// (stages, blocks, size, size)
        blocks: TensorView,
        /// As of the former, all stages together.
        most: f64,
        /// As of the former.
        rescale: Option<TensorView>,
    },
    /// W + W ∘ factors of its rows or columns, (IA)³.
    Ia3 {
        /// One factor for each.
        factors: TensorView,
        /// Whether they are of columns.
        of_columns: bool,
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
            PatchKind::Glora { .. } => "GLoRA",
            PatchKind::Oft { .. } => "OFT",
            PatchKind::Boft { .. } => "BOFT",
            PatchKind::Ia3 { .. } => "(IA)³",
            PatchKind::Diff(_) => "difference",
            PatchKind::Set(_) => "replacement",
        }
    }
}
