//! Matrices that stay in memory as they lie in their file: GGUF blocks, fp8 and int8 with scales,
//! nvfp4 and mxfp8, f16. A product widens the part that it is about to use and forgets it again.
//!
//! Not here: what the formats are (`kinora-weights`), and the product itself.

use candle_core::{Device, Tensor};
use half::f16;
use kinora_weights::{Dtype, Groups, StoredTensor, decode::decode};

use super::product::{Line, PANEL};
use crate::{Result, error::bail_shape};

/// Most inputs that are widened at a time: a multiple of every block.
const MOST: usize = 256;

/// Matrices over the same inputs, one below the other. Each keeps its own format.
#[derive(Clone, Debug)]
pub(crate) struct StoredRows {
    parts: Vec<Part>,
    outputs: usize,
    inputs: usize,
}

#[derive(Clone, Debug)]
struct Part {
    /// Row of the whole where it begins.
    first: usize,
    row_bytes: usize,
    tensor: StoredTensor,
}

impl StoredRows {
    /// Joins matrices of `inputs` columns. None when a row of one of them is no whole number of
    /// blocks, so that rows cannot be read alone.
    pub fn join(tensors: Vec<StoredTensor>, inputs: usize) -> Result<Option<Self>> {
        let mut parts = Vec::with_capacity(tensors.len());
        let mut outputs = 0;
        for tensor in tensors {
            let [rows, columns] = tensor.shape[..] else {
                bail_shape!("a matrix of the shape {:?}", tensor.shape);
            };
            if columns != inputs {
                bail_shape!("a matrix of {columns} inputs beside others of {inputs}");
            }
            let Some(row_bytes) = tensor.dtype.bytes_of(inputs as u64) else {
                return Ok(None);
            };
            let row_bytes = row_bytes as usize;
            if tensor.bytes.len() != rows * row_bytes {
                bail_shape!("{} bytes for {rows} × {inputs}", tensor.bytes.len());
            }
            parts.push(Part {
                first: outputs,
                row_bytes,
                tensor,
            });
            outputs += rows;
        }
        Ok(Some(Self {
            parts,
            outputs,
            inputs,
        }))
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its matrices from the first row on, and the bytes of a row of each.
    pub fn parts(&self) -> impl Iterator<Item = (&StoredTensor, usize)> {
        self.parts.iter().map(|part| (&part.tensor, part.row_bytes))
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        let of = |part: &Part| {
            let StoredTensor {
                bytes,
                scales,
                groups,
                ..
            } = &part.tensor;
            let of_groups = |groups: &Groups| groups.scales.len() + 4 * groups.columns.len();
            bytes.len() + 4 * scales.len() + groups.as_ref().map_or(0, of_groups)
        };
        self.parts.iter().map(of).sum()
    }

    /// Numbers `first..first + numbers.len()` of a row. `first` and the end are borders of blocks.
    fn widen_row(&self, row: usize, first: usize, numbers: &mut [f32]) {
        let Some(part) = self.parts.iter().rfind(|part| part.first <= row) else {
            return;
        };
        let dtype = part.tensor.dtype;
        let own = row - part.first;
        let bytes_of = |numbers: usize| numbers / dtype.block_len() * dtype.block_bytes();
        let start = own * part.row_bytes + bytes_of(first);
        let bytes = &part.tensor.bytes[start..start + bytes_of(numbers.len())];
        match dtype {
            Dtype::F16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *number = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            _ => decode(dtype, bytes, numbers),
        }
        part.tensor.scale_row(own, first, numbers);
    }

    /// The lines of a panel for inputs `first..first + lines.len()`: at most 256, between borders
    /// of blocks.
    pub fn widen_panel(&self, panel: usize, first: usize, lines: &mut [Line]) {
        let mut numbers = [0f32; MOST];
        let Some(numbers) = numbers.get_mut(..lines.len()) else {
            return;
        };
        let rows = panel * PANEL..((panel + 1) * PANEL).min(self.outputs);
        for (i, row) in rows.enumerate() {
            self.widen_row(row, first, numbers);
            for (line, number) in lines.iter_mut().zip(&*numbers) {
                line.0[i] = *number;
            }
        }
    }

    /// The whole matrix, f32.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let mut numbers = vec![0f32; self.outputs * self.inputs];
        if self.inputs > 0 {
            for (row, numbers) in numbers.chunks_exact_mut(self.inputs).enumerate() {
                self.widen_row(row, 0, numbers);
            }
        }
        Ok(Tensor::from_vec(
            numbers,
            (self.outputs, self.inputs),
            &Device::Cpu,
        )?)
    }

    /// Whether matrices of this format are kept as stored.
    pub fn is_kept(dtype: Dtype) -> bool {
        !matches!(dtype, Dtype::F32 | Dtype::Bf16 | Dtype::F64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(dtype: Dtype, shape: [usize; 2], bytes: Vec<u8>, scales: Vec<f32>) -> StoredTensor {
        StoredTensor {
            dtype,
            shape: shape.to_vec(),
            bytes,
            scales,
            groups: None,
        }
    }

    /// Bytes whose numbers are finite in every format that is tested.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 37 % 101) as u8 & 0x37).collect()
    }

    #[test]
    fn parts_of_several_formats_are_widened_where_they_lie() {
        let columns = 512;
        let parts = [
            (Dtype::F8E4M3, 40, vec![0.5]),
            (Dtype::Q8_0, 50, vec![]),
            (Dtype::Q4K, 3, vec![]),
            (Dtype::I8, 37, (0..37).map(|i| i as f32 / 8.0).collect()),
        ];
        let tensors: Vec<StoredTensor> = parts
            .into_iter()
            .map(|(dtype, rows, scales)| {
                let len = dtype.bytes_of((rows * columns) as u64).unwrap() as usize;
                stored(dtype, [rows, columns], bytes(len), scales)
            })
            .collect();
        let in_groups = [
            (Dtype::F4E2M1, 16, Dtype::F8E4M3),
            (Dtype::F8E4M3, 32, Dtype::F8E8M0),
        ];
        let in_groups = in_groups.map(|(dtype, len, of_scales)| {
            let count = dtype.bytes_of(5 * 512).unwrap() as usize;
            StoredTensor {
                groups: Some(Groups {
                    len,
                    dtype: of_scales,
                    scales: (0..5 * 512 / len).map(|i| 0x70 - (i % 48) as u8).collect(),
                    per_row: 512 / len,
                    factor: 0.25,
                    columns: (0..512).map(|i| i as f32 / 512.0).collect(),
                }),
                ..stored(dtype, [5, columns], bytes(count), vec![])
            }
        });
        let tensors: Vec<StoredTensor> = tensors.into_iter().chain(in_groups).collect();
        let expected: Vec<f32> = tensors.iter().flat_map(StoredTensor::to_f32).collect();
        assert!(expected.iter().all(|number| number.is_finite()));
        let joined = StoredRows::join(tensors, columns).unwrap().unwrap();
        assert_eq!((joined.outputs(), joined.inputs()), (140, columns));
        let whole = joined.to_tensor().unwrap().flatten_all().unwrap();
        assert_eq!(whole.to_vec1::<f32>().unwrap(), expected);
        for panel in 0..3 {
            let mut lines = [Line::ZERO; MOST];
            joined.widen_panel(panel, MOST, &mut lines);
            for (i, row) in (panel * PANEL..140.min((panel + 1) * PANEL)).enumerate() {
                for (column, line) in lines.iter().enumerate() {
                    assert_eq!(line.0[i], expected[row * columns + MOST + column]);
                }
            }
        }
    }

    #[test]
    fn rows_that_are_no_whole_blocks_are_not_kept() {
        let odd = stored(Dtype::Q8_0, [32, 33], bytes(33 * 34), vec![]);
        assert!(StoredRows::join(vec![odd], 33).unwrap().is_none());
        let short = stored(Dtype::I8, [2, 3], bytes(5), vec![]);
        assert!(StoredRows::join(vec![short], 3).is_err());
    }
}
