//! A tensor's bytes as they lie in the file, with the scales of its rows or of groups within them:
//! what a product kernel needs to widen a matrix piece by piece.

use crate::{
    Dtype, Error, Groups, QuantFormat, Result, Scaling, TensorView, WeightSet, decode::decode,
    groups::in_rows, view::has_one_scale,
};

/// A tensor as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Number format.
    pub dtype: Dtype,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Row by row.
    pub bytes: Vec<u8>,
    /// What the decoded numbers are multiplied by: nothing when empty, one factor for all, or one
    /// for each row.
    pub scales: Vec<f32>,
    /// Scales of groups within rows, in formats that have them; `scales` is empty then.
    pub groups: Option<Groups>,
}

impl StoredTensor {
    /// The factor of a row.
    pub fn scale_of(&self, row: usize) -> f32 {
        match self.scales.as_slice() {
            [] => 1.0,
            [one] => *one,
            rows => rows.get(row).copied().unwrap_or(1.0),
        }
    }

    /// Applies the scales to decoded numbers of a row, from column `first` on.
    pub fn scale_row(&self, row: usize, first: usize, numbers: &mut [f32]) {
        if !self.scales.is_empty() {
            let scale = self.scale_of(row);
            numbers.iter_mut().for_each(|number| *number *= scale);
        }
        if let Some(groups) = &self.groups {
            groups.scale_row(row, first, numbers);
        }
    }

    /// The first rows and columns of a matrix that was padded to whole groups; None when columns
    /// cannot be cut there.
    pub fn cropped(mut self, rows: usize, columns: usize) -> Option<Self> {
        let [stored_rows, stored_columns] = self.shape[..] else {
            return None;
        };
        let [row_bytes, kept] = [stored_columns, columns].map(|columns| {
            let bytes = self.dtype.bytes_of(columns as u64);
            bytes.map(|bytes| bytes as usize)
        });
        let (row_bytes, kept) = (row_bytes?, kept?);
        if rows > stored_rows || kept > row_bytes || row_bytes == 0 {
            return None;
        }
        let lines = self.bytes.chunks_exact(row_bytes).take(rows);
        self.bytes = lines.flat_map(|line| &line[..kept]).copied().collect();
        self.shape = vec![rows, columns];
        if self.scales.len() > 1 {
            self.scales.truncate(rows);
        }
        if let Some(groups) = &mut self.groups {
            groups.crop(rows, columns);
        }
        Some(self)
    }

    /// Its numbers, widened and scaled.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.dtype.elements_of(self.bytes.len())];
        decode(self.dtype, &self.bytes, &mut numbers);
        if !self.scales.is_empty() || self.groups.is_some() {
            let rows = self.shape.first().copied().unwrap_or(1).max(1);
            let len = (numbers.len() / rows).max(1);
            for (row, numbers) in numbers.chunks_mut(len).enumerate() {
                self.scale_row(row, 0, numbers);
            }
        }
        numbers
    }
}

impl WeightSet {
    /// A tensor as stored, with its scales. Refused for formats that are not known.
    pub fn read_stored(&self, name: &str) -> Result<StoredTensor> {
        let view = self.get(name)?;
        Ok(StoredTensor {
            dtype: view.dtype,
            shape: view.shape.clone(),
            bytes: self.read(name)?,
            scales: self.read_scales(name, view)?,
            groups: self.read_groups(name, view)?,
        })
    }

    fn read_scales(&self, name: &str, view: &TensorView) -> Result<Vec<f32>> {
        let Some(scaling) = &view.scaling else {
            return Ok(Vec::new());
        };
        if scaling.format.group_len().is_some() {
            return Ok(Vec::new());
        }
        let is_plain = matches!(scaling.format, QuantFormat::Fp8 | QuantFormat::Int8);
        if !is_plain || scaling.pre_scale.is_some() {
            return Err(self.refuse_format(name, &scaling.format));
        }
        let Some(scale) = &scaling.scale else {
            // Without a scale the numbers are what they are.
            return Ok(Vec::new());
        };
        let factors = self.read_factors(name, scale)?;
        let rows = view.shape.first().copied().unwrap_or(1);
        if !(has_one_scale(scaling) || factors.len() == rows) {
            return Err(self.refuse_format(name, &scaling.format));
        }
        Ok(factors)
    }

    /// A small tensor of scales as numbers, all of them finite.
    fn read_factors(&self, name: &str, scale: &TensorView) -> Result<Vec<f32>> {
        let bytes = self.read_view(scale)?;
        let mut factors = vec![0.0; scale.elements()];
        decode(scale.dtype, &bytes, &mut factors);
        match factors.iter().all(|factor| factor.is_finite()) {
            true => Ok(factors),
            false => Err(self.refuse_scale(name)),
        }
    }

    fn read_groups(&self, name: &str, view: &TensorView) -> Result<Option<Groups>> {
        let Some((scaling, len)) = (view.scaling.as_deref())
            .and_then(|scaling| Some((scaling, scaling.format.group_len()?)))
        else {
            return Ok(None);
        };
        // That these are there and of the right sizes was checked when the file was opened.
        let ([rows, columns], Some(scale)) = (&view.shape[..], &scaling.scale) else {
            return Err(self.refuse_format(name, &scaling.format));
        };
        let per_row = columns / len;
        let scales = in_rows(
            &self.read_view(scale)?,
            stored_rows(scaling, *rows),
            per_row,
        )
        .ok_or_else(|| self.refuse_format(name, &scaling.format))?;
        let dtype = match scaling.format {
            QuantFormat::Nvfp4 => Dtype::F8E4M3,
            _ => Dtype::F8E8M0,
        };
        let nan = |scale: &u8| match dtype {
            Dtype::F8E4M3 => scale & 0x7f == 0x7f,
            _ => *scale == 0xff,
        };
        if scales.iter().any(nan) {
            return Err(self.refuse_scale(name));
        }
        let factor = match &scaling.scale_2 {
            Some(factor) => self.read_factors(name, factor)?.first().copied(),
            None => None,
        };
        Ok(Some(Groups {
            len,
            dtype,
            scales,
            per_row,
            factor: factor.unwrap_or(1.0),
            columns: match &scaling.pre_scale {
                Some(columns) => self.read_factors(name, columns)?,
                None => Vec::new(),
            },
        }))
    }

    /// A tensor's numbers, widened and scaled whatever it is stored as: the plain reading, against
    /// which faster ones are checked. Refused for formats that are not known.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.read_stored(name)?.to_f32())
    }

    fn refuse_format(&self, name: &str, format: &QuantFormat) -> Error {
        Error::unsupported(
            self.path(),
            format!(
                "tensor {name:?} is stored as {}, which is not read; get the model in bf16, \
                 fp8, mxfp8, nvfp4, int8 or GGUF",
                format.as_str()
            ),
        )
    }

    fn refuse_scale(&self, name: &str) -> Error {
        let reason = format!("a scale of tensor {name:?} is not a finite number");
        Error::damaged(self.path(), reason)
    }
}

/// The rows of a tensor in the stored one that its scales belong to.
fn stored_rows(scaling: &Scaling, rows: usize) -> impl Iterator<Item = usize> {
    let runs = match scaling.rows[..] {
        [] => vec![(0, rows)],
        _ => scaling.rows.clone(),
    };
    runs.into_iter().flat_map(|(first, len)| first..first + len)
}
