//! Linear layers: y = x·Wᵀ + b.
//!
//! One type for every way that weights are stored, so that networks never ask: dense f32 and bf16,
//! and every quantised format as it lies in its file. Matrices over the same input
//! can be loaded as one. A row's result is the same, bit by bit, whatever other rows go through with
//! it. A loaded layer remembers where it came from, so that adapters can change it and take the
//! change back.

mod adapt;

use std::sync::Arc;

use candle_core::Tensor;

use self::adapt::Branch;
use super::{
    cpu::{f32s, for_rows, is_cpu_f32, tensor},
    halves,
    panel::Panels,
    weights::Weights,
};
use crate::{
    Result,
    error::bail_shape,
    kernels::{self, dequantise::DeviceRows, pointwise},
};

/// y = x·Wᵀ + b over the last dimension.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    /// (outputs)
    bias: Option<Tensor>,
    outputs: usize,
    inputs: usize,
    /// Where it was read; None when it was made from tensors.
    origin: Option<Arc<Origin>>,
    /// What adapters add beside the matrix.
    branch: Option<Arc<Branch>>,
    /// Whether the matrix holds what adapters made of it.
    is_merged: bool,
    has_merged_bias: bool,
}

/// A matrix (outputs, inputs), kept once.
#[derive(Clone, Debug)]
enum Weight {
    /// As the processor's kernel wants it.
    Packed(Panels),
    /// On a GPU as it lies in its file, widened for each product.
    Stored(DeviceRows),
    /// As a tensor.
    Dense(Tensor),
}

impl Weight {
    fn keep(weight: Tensor) -> Result<Self> {
        Ok(match Panels::pack(&weight)? {
            Some(panels) => Self::Packed(panels),
            None => Self::Dense(weight),
        })
    }
}

/// Where a layer was read.
#[derive(Clone, Debug)]
struct Origin {
    weights: Weights,
    /// Names below `weights` and outputs; the empty name is the place itself.
    parts: Vec<(String, usize)>,
    /// Sizes of the stored matrix behind its outputs: the inputs, or the channels and kernel of a
    /// convolution that steps over as many pixels as it sees.
    columns: Vec<usize>,
    has_bias: bool,
}

impl Origin {
    /// Columns of the matrix.
    fn inputs(&self) -> usize {
        self.columns.iter().product()
    }

    /// Whether it is stored as the kernels of a convolution.
    fn is_kernel(&self) -> bool {
        self.columns.len() > 1
    }

    /// The shape of a stored part.
    fn shape(&self, outputs: usize) -> Vec<usize> {
        [outputs].into_iter().chain(self.columns.clone()).collect()
    }

    /// Names and sizes of the matrices and, where there are any, of the vectors.
    fn names(&self) -> (Named, Named) {
        let with = |leaf: &str| {
            let full = |name: &str| match name {
                "" => leaf.to_owned(),
                name => format!("{name}.{leaf}"),
            };
            let parts = self.parts.iter();
            parts
                .map(|(name, outputs)| (full(name), *outputs))
                .collect()
        };
        let biases = if self.has_bias { with("bias") } else { vec![] };
        (with("weight"), biases)
    }

    fn load_matrix(&self) -> Result<Weight> {
        let (names, _) = self.names();
        let names = borrow(&names);
        if let ([(name, outputs)], true) = (names.as_slice(), self.is_kernel()) {
            let shape = self.shape(*outputs);
            return Weight::keep(self.weights.get_flattened_matrix(name, &shape)?);
        }
        let inputs = self.inputs();
        if let Some(rows) = self.weights.get_stored_rows(&names, inputs)? {
            let (device, dtype) = (self.weights.device(), self.weights.dtype());
            if !kernels::runs_on(device) {
                return Ok(Weight::Packed(Panels::from_stored(rows)));
            }
            if let Some(rows) = DeviceRows::upload(&rows, device, dtype)? {
                return Ok(Weight::Stored(rows));
            }
        }
        Weight::keep(self.weights.get_stacked_matrix(&names, inputs)?)
    }

    fn load_bias(&self) -> Result<Option<Tensor>> {
        let (_, names) = self.names();
        self.has_bias
            .then(|| self.weights.get_stacked_vector(&borrow(&names)))
            .transpose()
    }
}

impl Linear {
    /// `weight` and `bias` below `weights`.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<Self> {
        Self::read(weights, vec![inputs], &[("", outputs)], true)
    }

    /// `weight` alone.
    pub fn load_no_bias(weights: &Weights, inputs: usize, outputs: usize) -> Result<Self> {
        Self::read(weights, vec![inputs], &[("", outputs)], false)
    }

    /// A 1×1 convolution over tokens: `weight`, (outputs, inputs, 1, 1), and `bias`.
    pub fn load_pointwise(weights: &Weights, inputs: usize, outputs: usize) -> Result<Self> {
        Self::load_flattened(weights, &[outputs, inputs, 1, 1])
    }

    /// A convolution that steps over as many pixels as it sees, over the numbers of each such patch:
    /// `weight` of this shape, (outputs, channels, kernel …), and `bias`.
    pub fn load_flattened(weights: &Weights, shape: &[usize]) -> Result<Self> {
        match shape {
            [outputs, columns @ ..] => {
                Self::read(weights, columns.to_vec(), &[("", *outputs)], true)
            }
            [] => bail_shape!("a convolution without a shape"),
        }
    }

    /// Several layers over the same input as one: (name, outputs) each, with biases.
    pub fn load_stacked(weights: &Weights, inputs: usize, parts: &[(&str, usize)]) -> Result<Self> {
        Self::read(weights, vec![inputs], parts, true)
    }

    /// Several layers over the same input as one, without biases.
    pub fn load_stacked_no_bias(
        weights: &Weights,
        inputs: usize,
        parts: &[(&str, usize)],
    ) -> Result<Self> {
        Self::read(weights, vec![inputs], parts, false)
    }

    fn read(
        weights: &Weights,
        columns: Vec<usize>,
        parts: &[(&str, usize)],
        has_bias: bool,
    ) -> Result<Self> {
        let origin = Origin {
            weights: weights.clone(),
            parts: parts
                .iter()
                .map(|(name, outputs)| ((*name).to_owned(), *outputs))
                .collect(),
            columns,
            has_bias,
        };
        Ok(Self {
            weight: origin.load_matrix()?,
            bias: origin.load_bias()?,
            outputs: parts.iter().map(|(_, outputs)| outputs).sum(),
            inputs: origin.inputs(),
            origin: Some(Arc::new(origin)),
            branch: None,
            is_merged: false,
            has_merged_bias: false,
        })
    }

    /// From tensors: (outputs, inputs) and (outputs).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        Ok(Self {
            weight: Weight::keep(weight)?,
            bias,
            outputs,
            inputs,
            origin: None,
            branch: None,
            is_merged: false,
            has_merged_bias: false,
        })
    }

    /// Length of the last dimension of what it takes. Adapters may have widened it.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of the last dimension of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let of = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let matrix = match &self.weight {
            Weight::Packed(panels) => panels.bytes(),
            Weight::Stored(rows) => rows.bytes(),
            Weight::Dense(weight) => of(weight),
        };
        let own = (matrix + self.bias.as_ref().map_or(0, of)) as u64;
        own + self.branch.as_ref().map_or(0, |branch| branch.bytes())
    }

    /// (…, inputs) → (…, outputs)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None)
    }

    /// The layer plus `residual`, which has the result's shape.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Some(residual))
    }

    fn forward_with(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let y = self.multiply(x, residual)?;
        match &self.branch {
            Some(branch) => Ok((y + branch.forward(x)?)?),
            None => Ok(y),
        }
    }

    /// Matrix, bias and residual.
    fn multiply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let panels = match &self.weight {
            Weight::Packed(panels) if is_cpu_f32(x) => panels,
            _ => {
                let y = self.multiply_portable(x)?;
                if let Some(y) = pointwise::add_bias(&y, self.bias.as_ref(), residual)? {
                    return Ok(y);
                }
                let y = self.add_bias_portable(y)?;
                return Ok(match residual {
                    Some(residual) => (y + residual)?,
                    None => y,
                });
            }
        };
        let rows = x.elem_count() / self.inputs.max(1);
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(self.inputs) {
            bail_shape!("linear layer of {} inputs got {:?}", self.inputs, x.dims());
        }
        shape.push(self.outputs);
        let x = x.contiguous()?;
        let source = f32s(&x)?;
        let bias = self.bias.as_ref().map(f32s).transpose()?;
        let mut out = vec![0f32; rows * self.outputs];
        panels.multiply(&source, bias.as_deref(), &mut out)?;
        if let Some(residual) = residual {
            if residual.dims() != shape {
                bail_shape!("a residual of {:?} for {shape:?}", residual.dims());
            }
            let residual = residual.contiguous()?;
            let residual = f32s(&residual)?;
            for_rows(&mut out, 1, 1, |first, part| {
                for (out, add) in part.iter_mut().zip(&residual[first..]) {
                    *out += add;
                }
            });
        }
        tensor(out, shape)
    }

    /// The matrix in candle operations.
    fn multiply_portable(&self, x: &Tensor) -> Result<Tensor> {
        let weight = match &self.weight {
            Weight::Packed(panels) => panels.unpack()?,
            Weight::Stored(rows) => rows.dequantise()?,
            Weight::Dense(weight) => weight.clone(),
        };
        let weight = weight.to_dtype(x.dtype())?;
        let rows = x.elem_count() / self.inputs.max(1);
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(self.outputs);
        let y = halves::matmul(&x.reshape((rows, self.inputs))?, &weight.t()?)?;
        Ok(y.reshape(shape)?)
    }

    fn add_bias_portable(&self, y: Tensor) -> Result<Tensor> {
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
            None => y,
        })
    }

    /// Matrix and bias in candle operations.
    #[cfg(test)]
    pub(crate) fn forward_portable(&self, x: &Tensor) -> Result<Tensor> {
        self.add_bias_portable(self.multiply_portable(x)?)
    }
}

type Named = Vec<(String, usize)>;

fn borrow(named: &[(String, usize)]) -> Vec<(&str, usize)> {
    named
        .iter()
        .map(|(name, len)| (name.as_str(), *len))
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn kernels_equal_candle_for_each_stored_format() {
        // 1000 and 2100 inputs are widened in more than one piece.
        for (rows, inputs, outputs) in [(1, 7, 5), (19, 32, 48), (33, 1000, 1100), (3, 2100, 2050)]
        {
            let weight = (wave(&[outputs, inputs]) * 0.05).unwrap();
            let bias = Some(wave(&[outputs]));
            let x = wave(&[rows, inputs]).reshape((1, rows, inputs)).unwrap();
            for dtype in [DType::F32, DType::BF16] {
                let linear = Linear::new(weight.to_dtype(dtype).unwrap(), bias.clone()).unwrap();
                let ours = linear.forward(&x).unwrap();
                // Values of up to 30, summed in another order.
                assert_close(&ours, &linear.forward_portable(&x).unwrap(), 2e-4);
            }
        }
    }

    #[test]
    fn a_residual_is_added() {
        let linear = Linear::new(wave(&[40, 60]), Some(wave(&[40]))).unwrap();
        let (x, residual) = (wave(&[2, 30, 60]), wave(&[2, 30, 40]));
        let expected = (linear.forward(&x).unwrap() + &residual).unwrap();
        assert_close(&linear.forward_add(&x, &residual).unwrap(), &expected, 0.0);
        assert!(linear.forward_add(&x, &x).is_err());
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let linear = Linear::new(wave(&[4, 6]), None).unwrap();
        assert!(linear.forward(&wave(&[2, 5])).is_err());
        assert_eq!(linear.bytes(), 96);
    }
}
