//! `dequantise.cu`: matrices that stay on the GPU as they lie in their files, and are widened for the
//! product that uses them.

use candle_core::{DType, Device, Shape, Tensor};
use kinora_weights::{Dtype, StoredTensor};

use super::{Argument, Call, Launch, blocks, suffix, threads_for};
use crate::{Result, layers::stored::StoredRows};

/// Threads of a block at most.
const THREADS: usize = 256;

/// Quantised matrices over the same inputs, one below the other.
#[derive(Clone, Debug)]
pub(crate) struct DeviceRows {
    parts: Vec<Part>,
    outputs: usize,
    inputs: usize,
    dtype: DType,
}

#[derive(Clone, Debug)]
struct Part {
    /// As stored, u8.
    bytes: Tensor,
    /// One for all rows or one for each, f32.
    scales: Option<Tensor>,
    format: i32,
    rows: usize,
    row_bytes: usize,
}

/// The number of a format, as in `dequantise.cu`.
fn number_of(dtype: Dtype) -> Option<i32> {
    Some(match dtype {
        Dtype::F16 => 0,
        Dtype::I8 => 1,
        Dtype::F8E4M3 => 2,
        Dtype::F8E5M2 => 3,
        Dtype::Q4_0 => 4,
        Dtype::Q4_1 => 5,
        Dtype::Q5_0 => 6,
        Dtype::Q5_1 => 7,
        Dtype::Q8_0 => 8,
        Dtype::Iq4Nl => 9,
        Dtype::Mxfp4 => 10,
        Dtype::Q2K => 11,
        Dtype::Q3K => 12,
        Dtype::Q4K => 13,
        Dtype::Q5K => 14,
        Dtype::Q6K => 15,
        Dtype::Q8K => 16,
        Dtype::Iq4Xs => 17,
        Dtype::Bf16 => 18,
        Dtype::F32 => 19,
        _ => return None,
    })
}

impl DeviceRows {
    /// Brings matrices to the device, for products in `dtype`. None where a format has no kernel,
    /// and where they would be no smaller than in `dtype`.
    pub fn upload(rows: &StoredRows, device: &Device, dtype: DType) -> Result<Option<Self>> {
        let (outputs, inputs) = (rows.outputs(), rows.inputs());
        let is_smaller = rows.bytes() < outputs * inputs * dtype.size_in_bytes();
        if suffix(dtype).is_none() || !is_smaller {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for (tensor, row_bytes) in rows.parts() {
            let StoredTensor {
                dtype,
                shape,
                bytes,
                scales,
                groups,
            } = tensor;
            let (Some(format), None) = (number_of(*dtype), groups) else {
                return Ok(None);
            };
            let scales = (!scales.is_empty())
                .then(|| Tensor::new(scales.as_slice(), device))
                .transpose()?;
            parts.push(Part {
                bytes: Tensor::new(bytes.as_slice(), device)?,
                scales,
                format,
                rows: shape.first().copied().unwrap_or(0),
                row_bytes,
            });
        }
        Ok(Some(Self {
            parts,
            outputs,
            inputs,
            dtype,
        }))
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        let of = |part: &Part| {
            let scales = part.scales.as_ref().map_or(0, Tensor::elem_count);
            part.bytes.elem_count() + 4 * scales
        };
        self.parts.iter().map(of).sum()
    }

    /// The whole matrix, (outputs, inputs), in the format of products.
    pub fn dequantise(&self) -> Result<Tensor> {
        let ending = suffix(self.dtype).unwrap_or("f32");
        let mut launches = Vec::with_capacity(self.parts.len());
        let mut first = 0;
        for part in &self.parts {
            let scaling = match &part.scales {
                None => 0,
                Some(scales) if scales.elem_count() == 1 => 1,
                Some(_) => 2,
            };
            launches.push(Launch {
                entry: format!("dequantise_{ending}"),
                grid: blocks(part.rows)?,
                block: [threads_for(self.inputs, self.dtype, 1, THREADS), 1, 1],
                shared_bytes: 0,
                arguments: vec![
                    Argument::In(&part.bytes),
                    // Not read without scales.
                    Argument::In(part.scales.as_ref().unwrap_or(&part.bytes)),
                    Argument::Out(0),
                    Argument::Int(part.format),
                    Argument::size(self.inputs)?,
                    Argument::long(part.row_bytes),
                    Argument::Int(scaling),
                    Argument::long(first),
                ],
            });
            first += part.rows;
        }
        let call = Call {
            source: "dequantise",
            outputs: vec![(self.dtype, Shape::from((self.outputs, self.inputs)))],
            launches,
        };
        call.run_for_one()
    }
}
