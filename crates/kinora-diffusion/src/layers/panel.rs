//! Products with a matrix that is used again and again: packed once, in the number format that it
//! is stored in, and multiplied without further copies of more than a panel.
//!
//! The matrix lies in panels of 64 outputs, input by input. A bf16 panel is widened block by block
//! into a buffer of the core that multiplies with it; so are the rows of a quantised matrix, which
//! stays as it is in its file. All give the same bits as the widened matrix would.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::bf16;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    product::{Line, Numbers, PANEL, ROWS, Sums, add_product},
    simd,
    stored::StoredRows,
};
use crate::{Result, error::bail_shape};

/// Inputs whose products are summed before they join the result: long chains of additions lose
/// digits. A panel's block of 64 KiB stays in the second-level cache while rows come by. Changing it
/// changes results in their last bits.
const BLOCK: usize = 256;
/// Inputs of a bf16 panel that are widened at a time when only few rows will use them.
const SLICE: usize = 32;
/// Rows of a task.
const TASK_ROWS: usize = 20 * ROWS;
/// Panels of a task: rows are read from memory once for so many.
const TASK_PANELS: usize = 8;
/// Multiplications below which one core is faster than several.
const SERIAL_WORK: usize = 1 << 19;

/// The bf16 numbers of a panel that share an input.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct HalfLine([bf16; PANEL]);

/// `[panel][input]`
#[derive(Clone, Debug)]
enum Packed {
    F32(Vec<Line>),
    Bf16(Vec<HalfLine>),
    /// As in the file.
    Stored(StoredRows),
}

/// A matrix (outputs, inputs), packed.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    packed: Packed,
    outputs: usize,
    inputs: usize,
}

impl Panels {
    /// Packs a row-major (outputs, inputs) matrix of f32 or bf16 on the processor. None for other
    /// formats and devices, and for tensors that only repeat an element.
    pub fn pack(weight: &Tensor) -> Result<Option<Self>> {
        let (outputs, inputs) = weight.dims2()?;
        let (storage, layout) = weight.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Ok(None);
        };
        let packed = match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) => {
                let mut lines = vec![Line::ZERO; outputs.div_ceil(PANEL) * inputs];
                transpose(&data[start..end], inputs, &mut lines, |line, i, value| {
                    line.0[i] = value;
                });
                Packed::F32(lines)
            }
            Storage::Cpu(CpuStorage::BF16(data)) => {
                let zero = HalfLine([bf16::ZERO; PANEL]);
                let mut lines = vec![zero; outputs.div_ceil(PANEL) * inputs];
                transpose(&data[start..end], inputs, &mut lines, |line, i, value| {
                    line.0[i] = value;
                });
                Packed::Bf16(lines)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            packed,
            outputs,
            inputs,
        }))
    }

    /// Takes a matrix as it is stored.
    pub fn from_stored(rows: StoredRows) -> Self {
        Self {
            outputs: rows.outputs(),
            inputs: rows.inputs(),
            packed: Packed::Stored(rows),
        }
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        match &self.packed {
            Packed::F32(_) => 4 * self.outputs * self.inputs,
            Packed::Bf16(_) => 2 * self.outputs * self.inputs,
            Packed::Stored(rows) => rows.bytes(),
        }
    }

    /// The matrix as it was, for devices and formats without a kernel; in f32 where it is stored in
    /// a format that tensors do not have.
    pub fn unpack(&self) -> Result<Tensor> {
        if let Packed::Stored(rows) = &self.packed {
            return rows.to_tensor();
        }
        let mut data = vec![0f32; self.outputs * self.inputs];
        for (output, row) in data.chunks_exact_mut(self.inputs.max(1)).enumerate() {
            let (first, i) = (output / PANEL * self.inputs, output % PANEL);
            for (input, value) in row.iter_mut().enumerate() {
                *value = match &self.packed {
                    Packed::F32(lines) => lines[first + input].0[i],
                    Packed::Bf16(lines) => lines[first + input].0[i].to_f32(),
                    // Left above.
                    Packed::Stored(_) => 0.0,
                };
            }
        }
        let tensor = Tensor::from_vec(data, (self.outputs, self.inputs), &Device::Cpu)?;
        Ok(tensor.to_dtype(self.dtype())?)
    }

    /// The number format that tensors of it have.
    pub fn dtype(&self) -> DType {
        match self.packed {
            Packed::F32(_) | Packed::Stored(_) => DType::F32,
            Packed::Bf16(_) => DType::BF16,
        }
    }

    /// `out (rows, outputs) = x (rows, inputs) · Wᵀ + bias`.
    pub fn multiply(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        if self.outputs == 0 || out.is_empty() {
            return Ok(());
        }
        let rows = out.len() / self.outputs;
        if x.len() != rows * self.inputs || out.len() != rows * self.outputs {
            bail_shape!(
                "{} numbers times a matrix of {} inputs",
                x.len(),
                self.inputs
            );
        }
        if bias.is_some_and(|bias| bias.len() != self.outputs) {
            bail_shape!("a bias for {} outputs", self.outputs);
        }
        let x = Numbers {
            data: x,
            stride: self.inputs,
        };
        let threads = rayon::current_num_threads();
        let work = rows
            .saturating_mul(self.outputs)
            .saturating_mul(self.inputs);
        if threads == 1 || work < 2 * SERIAL_WORK {
            let mut task = Task {
                first_row: 0,
                first_panel: 0,
                rows: out.chunks_exact_mut(self.outputs).collect(),
            };
            self.run(&mut task, x, bias);
            return Ok(());
        }
        // Enough tasks that a core that is held up does not hold up the others. Those that share
        // panels follow each other.
        let wanted = (work / SERIAL_WORK).min(4 * threads);
        let panels = self.outputs.div_ceil(PANEL);
        let row_chunks = rows.div_ceil(TASK_ROWS);
        let column_chunks = panels
            .div_ceil(TASK_PANELS)
            .max(wanted.div_ceil(row_chunks).min(panels));
        let per_task = panels.div_ceil(column_chunks);
        let column_chunks = panels.div_ceil(per_task);
        let row_chunks = row_chunks.max(wanted.div_ceil(column_chunks).min(rows.div_ceil(ROWS)));
        let task_rows = rows.div_ceil(row_chunks).next_multiple_of(ROWS);
        let row_chunks = rows.div_ceil(task_rows);
        let mut tasks: Vec<Task> = (0..column_chunks * row_chunks)
            .map(|i| Task {
                first_row: i % row_chunks * task_rows,
                first_panel: i / row_chunks * per_task,
                rows: Vec::with_capacity(task_rows),
            })
            .collect();
        for (row, out) in out.chunks_exact_mut(self.outputs).enumerate() {
            for (i, part) in out.chunks_mut(per_task * PANEL).enumerate() {
                tasks[i * row_chunks + row / task_rows].rows.push(part);
            }
        }
        tasks
            .par_iter_mut()
            .with_max_len(1)
            .for_each(|task| self.run(task, x, bias));
        Ok(())
    }

    fn run(&self, task: &mut Task, x: Numbers, bias: Option<&[f32]>) {
        let product = Product {
            panels: self,
            x,
            bias,
            task,
        };
        simd::run(product);
    }
}

/// Turns rows into lines. `set` writes a value at its place in a line.
fn transpose<T: Copy + Sync, L: Send>(
    data: &[T],
    inputs: usize,
    lines: &mut [L],
    set: impl Fn(&mut L, usize, T) + Sync,
) {
    if inputs == 0 {
        return;
    }
    lines
        .par_chunks_exact_mut(inputs)
        .zip(data.par_chunks(inputs * PANEL))
        .for_each(|(lines, rows)| {
            // A few inputs at a time: their lines stay in cache while the rows come by.
            for first in (0..inputs).step_by(16) {
                let count = 16.min(inputs - first);
                for (i, row) in rows.chunks_exact(inputs).enumerate() {
                    let values = &row[first..first + count];
                    for (line, value) in lines[first..].iter_mut().zip(values) {
                        set(line, i, *value);
                    }
                }
            }
        });
}

/// Some rows times some panels.
struct Task<'a> {
    first_row: usize,
    first_panel: usize,
    /// The results of these panels for each row.
    rows: Vec<&'a mut [f32]>,
}

struct Product<'a, 'b> {
    panels: &'a Panels,
    x: Numbers<'a>,
    bias: Option<&'a [f32]>,
    task: &'a mut Task<'b>,
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let inputs = self.panels.inputs;
        let Task {
            first_row,
            first_panel,
            rows,
        } = self.task;
        let columns = rows.first().map_or(0, |row| row.len());
        let mut wide = match self.panels.packed {
            Packed::F32(_) => Vec::new(),
            Packed::Bf16(_) | Packed::Stored(_) => vec![Line::ZERO; BLOCK.min(inputs)],
        };
        let is_narrow = rows.len() <= 2 * ROWS;
        for first in (0..inputs).step_by(BLOCK) {
            let count = BLOCK.min(inputs - first);
            for column in (0..columns).step_by(PANEL) {
                let width = PANEL.min(columns - column);
                let start = (*first_panel + column / PANEL) * inputs + first;
                let mut bias = [0f32; PANEL];
                if let Some(values) = self.bias.filter(|_| first == 0) {
                    let output = *first_panel * PANEL + column;
                    bias[..width].copy_from_slice(&values[output..output + width]);
                }
                if let Packed::Bf16(stored) = &self.panels.packed
                    && !is_narrow
                {
                    widen(&stored[start..start + count], &mut wide);
                }
                if let Packed::Stored(rows) = &self.panels.packed {
                    let panel = *first_panel + column / PANEL;
                    rows.widen_panel(panel, first, &mut wide[..count]);
                }
                for (tile, rows) in rows.chunks_mut(ROWS).enumerate() {
                    let mut sums: Sums = [[0f32; PANEL]; ROWS];
                    let tile = (*first_row + tile * ROWS, rows.len());
                    match &self.panels.packed {
                        Packed::F32(lines) => {
                            let lines = &lines[start..start + count];
                            add_product(simd, self.x, tile, first, lines, width, &mut sums);
                        }
                        Packed::Stored(_) => {
                            let lines = &wide[..count];
                            add_product(simd, self.x, tile, first, lines, width, &mut sums);
                        }
                        Packed::Bf16(_) if !is_narrow => {
                            let lines = &wide[..count];
                            add_product(simd, self.x, tile, first, lines, width, &mut sums);
                        }
                        // So few at a time that they never leave the first-level cache.
                        Packed::Bf16(stored) => {
                            let stored = stored[start..start + count].chunks(SLICE);
                            for (i, stored) in stored.enumerate() {
                                let (first, lines) = (first + i * SLICE, &mut wide[..stored.len()]);
                                widen(stored, lines);
                                add_product(simd, self.x, tile, first, lines, width, &mut sums);
                            }
                        }
                    }
                    for (sums, row) in sums.iter().zip(rows) {
                        let results = row[column..column + width].iter_mut();
                        if first == 0 {
                            for (out, (sum, bias)) in results.zip(sums.iter().zip(&bias)) {
                                *out = sum + bias;
                            }
                        } else {
                            for (out, sum) in results.zip(sums) {
                                *out += sum;
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn widen(stored: &[HalfLine], wide: &mut [Line]) {
    for (wide, stored) in wide.iter_mut().zip(stored) {
        for (wide, stored) in wide.0.iter_mut().zip(&stored.0) {
            *wide = f32::from_bits(u32::from(stored.to_bits()) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_right_at_every_edge_and_rows_do_not_depend_on_each_other() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (9, 5, 50),
            (70, 130, 97),
            (300, 64, 48),
            (7, 1100, 1030),
            (130, 520, 700),
        ] {
            let value = |i: usize| ((i * 7919 % 1009) as f32 - 500.0) / 300.0;
            let x: Vec<f32> = (0..rows * inputs).map(value).collect();
            let weight: Vec<f32> = (0..outputs * inputs).map(|i| value(i + 13)).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| value(i + 77)).collect();
            let weight = Tensor::from_vec(weight, (outputs, inputs), &Device::Cpu).unwrap();
            for dtype in [DType::F32, DType::BF16] {
                let weight = weight.to_dtype(dtype).unwrap();
                let panels = Panels::pack(&weight).unwrap().unwrap();
                let unpacked = panels.unpack().unwrap().to_dtype(DType::F32).unwrap();
                let weight = weight.to_dtype(DType::F32).unwrap();
                let weight: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
                let same: Vec<f32> = unpacked.flatten_all().unwrap().to_vec1().unwrap();
                assert_eq!(weight, same);
                let mut out = vec![f32::NAN; rows * outputs];
                panels.multiply(&x, Some(&bias), &mut out).unwrap();
                for row in (0..rows).step_by(1 + rows / 9) {
                    let x = &x[row * inputs..][..inputs];
                    for output in 0..outputs {
                        let terms = (0..inputs)
                            .map(|k| f64::from(x[k]) * f64::from(weight[output * inputs + k]))
                            .chain([f64::from(bias[output])]);
                        let size: f64 = terms.clone().map(f64::abs).sum();
                        let exact: f64 = terms.sum();
                        let error = (f64::from(out[row * outputs + output]) - exact).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{rows}·{inputs}·{outputs} at ({row}, {output}): {error}"
                        );
                    }
                    let mut alone = vec![0f32; outputs];
                    panels.multiply(x, Some(&bias), &mut alone).unwrap();
                    assert_eq!(alone, out[row * outputs..][..outputs], "row {row} alone");
                }
            }
        }
    }

    #[test]
    fn a_stored_matrix_gives_the_bits_of_the_widened_one() {
        use kinora_weights::{Dtype, StoredTensor};
        let (outputs, inputs) = (150, 768);
        for dtype in [Dtype::Q4K, Dtype::Q8_0, Dtype::F8E4M3, Dtype::F16] {
            let len = dtype.bytes_of((outputs * inputs) as u64).unwrap() as usize;
            let stored = StoredTensor {
                dtype,
                shape: vec![outputs, inputs],
                bytes: (0..len).map(|i| (i * 37 % 101) as u8 & 0x37).collect(),
                scales: vec![],
                groups: None,
            };
            let wide = Tensor::from_vec(stored.to_f32(), (outputs, inputs), &Device::Cpu).unwrap();
            let wide = Panels::pack(&wide).unwrap().unwrap();
            let rows = StoredRows::join(vec![stored], inputs).unwrap().unwrap();
            let stored = Panels::from_stored(rows);
            assert_eq!(stored.bytes(), len);
            for rows in [1, 5, 40, 200] {
                let x: Vec<f32> = (0..rows * inputs).map(|i| (i % 97) as f32 - 48.0).collect();
                let mut expected = vec![0f32; rows * outputs];
                let mut ours = expected.clone();
                wide.multiply(&x, None, &mut expected).unwrap();
                stored.multiply(&x, None, &mut ours).unwrap();
                assert!(expected == ours, "{dtype} with {rows} rows");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_repeated_elements_are_not_packed() {
        let ones = Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap();
        let panels = Panels::pack(&ones).unwrap().unwrap();
        assert!(panels.multiply(&[0.0; 5], None, &mut [0.0; 3]).is_err());
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        let repeated = zero.broadcast_as((1 << 20, 1 << 20)).unwrap();
        assert!(Panels::pack(&repeated).unwrap().is_none());
    }
}
