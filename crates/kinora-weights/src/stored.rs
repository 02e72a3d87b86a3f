//! A tensor's bytes as they lie in the file, with the one scale of each row where it has scales:
//! what a product kernel needs to widen a matrix piece by piece.

use crate::{
    Dtype, Error, QuantFormat, Result, TensorView, WeightSet, decode::decode, view::has_one_scale,
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

    /// Its numbers, widened and scaled.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.dtype.elements_of(self.bytes.len())];
        decode(self.dtype, &self.bytes, &mut numbers);
        if !self.scales.is_empty() {
            let rows = self.shape.first().copied().unwrap_or(1).max(1);
            let len = (numbers.len() / rows).max(1);
            for (row, numbers) in numbers.chunks_mut(len).enumerate() {
                let scale = self.scale_of(row);
                numbers.iter_mut().for_each(|number| *number *= scale);
            }
        }
        numbers
    }
}

impl WeightSet {
    /// A tensor as stored, with its scales. Refused for formats whose scales lie in groups.
    pub fn read_stored(&self, name: &str) -> Result<StoredTensor> {
        let view = self.get(name)?;
        Ok(StoredTensor {
            dtype: view.dtype,
            shape: view.shape.clone(),
            bytes: self.read(name)?,
            scales: self.read_scales(name, view)?,
        })
    }

    fn read_scales(&self, name: &str, view: &TensorView) -> Result<Vec<f32>> {
        let Some(scaling) = &view.scaling else {
            return Ok(Vec::new());
        };
        let is_plain = matches!(scaling.format, QuantFormat::Fp8 | QuantFormat::Int8);
        if !is_plain || scaling.pre_scale.is_some() {
            return Err(self.refuse_format(name, &scaling.format));
        }
        let Some(scale) = &scaling.scale else {
            // Without a scale the numbers are what they are.
            return Ok(Vec::new());
        };
        let bytes = self.read_view(scale)?;
        let mut factors = vec![0.0; scale.elements()];
        decode(scale.dtype, &bytes, &mut factors);
        let rows = view.shape.first().copied().unwrap_or(1);
        if !(has_one_scale(scaling) || factors.len() == rows) {
            return Err(self.refuse_format(name, &scaling.format));
        }
        if factors.iter().any(|factor| !factor.is_finite()) {
            return Err(Error::damaged(
                self.path(),
                format!("a scale of tensor {name:?} is not a finite number"),
            ));
        }
        Ok(factors)
    }

    /// A tensor's numbers, widened and scaled whatever it is stored as: the plain reading, against
    /// which faster ones are checked. Refused for formats whose scales lie in tiles.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.read_stored(name)?.to_f32())
    }

    fn refuse_format(&self, name: &str, format: &QuantFormat) -> Error {
        Error::unsupported(
            self.path(),
            format!(
                "tensor {name:?} is stored as {} with scales in groups, which is not read; get \
                 the model in bf16, fp8 or GGUF",
                format.as_str()
            ),
        )
    }
}
