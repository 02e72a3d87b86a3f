//! Where the bytes of one canonical tensor lie, and what has to be done to them on the way: the
//! parts, turns and foldings that lie between two layouts of the same network.

use std::sync::Arc;

use crate::{Dtype, QuantFormat, TensorInfo, scaling::StoredScaling};

/// Which part of a stored tensor a canonical one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Rows of a tensor that is stored fused with others, in equal shares: rows
    /// `start · n / of` to `(start + len) · n / of` of `n`.
    Rows {
        /// First share.
        start: usize,
        /// Shares.
        len: usize,
        /// Shares in all.
        of: usize,
    },
    /// The two halves of the rows change places.
    SwappedHalves,
    /// Rows and columns change places.
    Transposed,
    /// Trailing dimensions of size 1 are dropped: a 1×1 convolution used as a linear layer.
    Squeezed,
    /// Leading dimensions of size 1 are added up to this rank: some writers drop them.
    Rank(usize),
    /// One is taken from every number: llama.cpp stores the scales of Gemma's norms so.
    MinusOne,
}

/// A stored tensor, and the part of it that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Name in the file.
    pub name: String,
    pub part: Part,
}

/// One tensor of a [`crate::WeightSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView {
    /// Number format as stored. Numbers of a quantised tensor are to be multiplied by the scales of
    /// [`TensorView::scaling`].
    pub dtype: Dtype,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Size in bytes.
    pub bytes: usize,
    /// Scales, when the numbers are quantised outside of their format.
    pub scaling: Option<Arc<Scaling>>,
    /// Which file, and the byte ranges in it that follow each other in the tensor.
    pub(crate) file: usize,
    pub(crate) ranges: Vec<(u64, usize)>,
    pub(crate) turn: Turn,
}

/// What is done to the bytes after reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    #[default]
    None,
    /// Stored as (columns, rows).
    Transposed,
    MinusOne,
}

/// The scales of a quantised tensor. Read them with [`crate::WeightSet::read_view`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// What the numbers are and how the scales are laid out.
    pub format: QuantFormat,
    /// Scale of the weight: of the whole tensor, of each row, or of each group.
    pub scale: Option<TensorView>,
    /// Scale of the scales.
    pub scale_2: Option<TensorView>,
    /// What inputs are divided by before they are rounded to 8 bits, where the product is to be
    /// taken in 8 bits.
    pub input_scale: Option<TensorView>,
    /// Factors of the inputs, one for each column.
    pub pre_scale: Option<TensorView>,
    /// Whether the weight must be widened before the product even where 8-bit products exist.
    pub is_full_precision: bool,
    /// Where scales lie in tiles, and the tensor is a part of the stored one: its rows there, first
    /// and number, one run after another. Empty for all of them.
    pub(crate) rows: Vec<(usize, usize)>,
}

impl Scaling {
    /// The same for a part of the rows where scales lie in tiles: `runs` are first rows and numbers,
    /// counted from this tensor's own first row. None for other formats.
    fn select_runs(&self, runs: &[(usize, usize)]) -> Option<Arc<Self>> {
        self.format.group_len()?;
        let first = match self.rows[..] {
            [] => 0,
            [(first, _)] => first,
            _ => return None,
        };
        let mut part = self.clone();
        part.rows = runs.iter().map(|(row, len)| (first + row, *len)).collect();
        Some(Arc::new(part))
    }
}

impl TensorView {
    pub(crate) fn whole(file: usize, info: &TensorInfo) -> Self {
        Self {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: info.bytes,
            scaling: None,
            file,
            ranges: vec![(info.offset, info.bytes)],
            turn: Turn::None,
        }
    }

    pub(crate) fn scaled(file: usize, info: &TensorInfo, stored: &StoredScaling) -> Self {
        let view = |info: &Option<TensorInfo>| info.as_ref().map(|info| Self::whole(file, info));
        let mut whole = Self::whole(file, info);
        whole.dtype = stored.dtype.unwrap_or(info.dtype);
        whole.scaling = Some(Arc::new(Scaling {
            format: stored.format.clone(),
            scale: view(&stored.scale),
            scale_2: view(&stored.scale_2),
            input_scale: view(&stored.input_scale),
            pre_scale: view(&stored.pre_scale),
            is_full_precision: stored.is_full_precision,
            rows: Vec::new(),
        }));
        if whole.dtype.is_block() {
            // Stored as bytes, each of which is a block.
            let columns = whole.shape.last_mut();
            columns
                .into_iter()
                .for_each(|columns| *columns *= whole.dtype.block_len());
        }
        whole
    }

    /// Numbers in the tensor.
    pub fn elements(&self) -> usize {
        self.dtype.elements_of(self.bytes)
    }

    /// Bytes that it occupies when it is kept as stored: with the scales of its groups.
    pub fn kept_bytes(&self) -> u64 {
        let len = (self.scaling.as_ref()).and_then(|scaling| scaling.format.group_len());
        let scales = len.map_or(0, |len| self.elements() / len);
        (self.bytes + scales) as u64
    }

    /// A part of the tensor; None when its shape or format does not allow it.
    pub(crate) fn select(&self, part: Part) -> Option<Self> {
        let mut view = self.clone();
        match part {
            Part::Whole => {}
            Part::Rows { start, len, of } => {
                let rows = *self.shape.first()?;
                let share = rows.checked_div(of).filter(|share| share * of == rows)?;
                view = self.rows(start * share, len * share)?;
            }
            Part::SwappedHalves => {
                let rows = *self.shape.first()?;
                let half = rows.checked_div(2).filter(|half| half * 2 == rows)?;
                let (first, second) = (self.rows(0, half)?, self.rows(half, half)?);
                view.ranges = [second.ranges, first.ranges].concat();
                if let Some(scaling) = &self.scaling
                    && !has_one_scale(scaling)
                {
                    view.scaling = Some(scaling.select_runs(&[(half, half), (0, half)])?);
                }
            }
            // A vector turned is the vector.
            Part::Transposed if self.shape.len() < 2 => {}
            Part::Transposed => {
                let ([rows, columns], false) = (self.shape.as_slice(), self.dtype.is_block())
                else {
                    return None;
                };
                view.shape = vec![*columns, *rows];
                view.turn = Turn::Transposed;
                (self.turn == Turn::None && self.scaling.is_none()).then_some(())?;
            }
            Part::Squeezed => {
                while view.shape.len() > 2 && view.shape.last() == Some(&1) {
                    view.shape.pop();
                }
            }
            Part::Rank(rank) => {
                while view.shape.len() < rank {
                    view.shape.insert(0, 1);
                }
            }
            Part::MinusOne => {
                (self.turn == Turn::None && self.dtype == Dtype::F32).then_some(())?;
                view.turn = Turn::MinusOne;
            }
        }
        Some(view)
    }

    /// Rows of an untouched tensor.
    fn rows(&self, start: usize, len: usize) -> Option<Self> {
        let ([(offset, bytes)], Turn::None) = (&self.ranges[..], self.turn) else {
            return None;
        };
        let rows = *self.shape.first()?;
        let of_row = self.elements().checked_div(rows)?;
        if start.checked_add(len)? > rows || bytes % rows != 0 {
            return None;
        }
        // Blocks may not cross the border between two rows.
        if of_row == 0 || !of_row.is_multiple_of(self.dtype.block_len()) {
            return None;
        }
        let row_bytes = bytes / rows;
        let mut view = self.clone();
        view.shape[0] = len;
        view.bytes = len * row_bytes;
        view.ranges = vec![(offset + (start * row_bytes) as u64, view.bytes)];
        if let Some(scaling) = &self.scaling
            && !has_one_scale(scaling)
        {
            view.scaling = Some(match scaling.format {
                QuantFormat::Fp8 | QuantFormat::Int8 => {
                    let mut part = Scaling::clone(scaling);
                    let scale = part.scale.as_ref()?;
                    // One scale, or one line of scales, for each row.
                    let is_by_row = scale.shape.first() == Some(&rows);
                    part.scale = Some(is_by_row.then(|| scale.rows(start, len))??);
                    Arc::new(part)
                }
                _ => scaling.select_runs(&[(start, len)])?,
            });
        }
        Some(view)
    }
}

/// Whether one factor holds for the whole tensor.
pub(crate) fn has_one_scale(scaling: &Scaling) -> bool {
    matches!(scaling.format, QuantFormat::Fp8 | QuantFormat::Int8)
        && scaling
            .scale
            .as_ref()
            .is_none_or(|scale| scale.elements() == 1)
}
