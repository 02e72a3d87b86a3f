//! Three-dimensional convolution over frames that come one after another: a frame's result depends
//! on it and on frames before it, which a [`History`] keeps.
//!
//! Frames are the first dimension, so that a run of them is a batch of pictures. On the processor
//! the padded frames lie behind each other; the channels of as many of them as the kernel is long
//! are then the channels of one picture, and the two-dimensional kernel does the rest. A frame's
//! result is one chain of additions whichever frames come with it: the same, bit by bit, however
//! the frames are cut into runs.

use candle_core::{CpuStorage, DType, Storage, Tensor};

use super::{
    Padding,
    direct::{Direct, Geometry, Image, Stored},
};
use crate::{
    Result,
    error::bail_shape,
    kernels::conv::{Input, Packed},
    layers::{
        cpu::{f32s, is_cpu_f32, tensor},
        halves,
        weights::Weights,
    },
};

/// The last frames that a convolution has seen; none before the first run, which stands for black.
#[derive(Clone, Debug, Default)]
pub struct History(Option<Tensor>);

impl History {
    /// Whether no frame was seen yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// What stands around the pixels of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// Nothing.
    #[default]
    Zeros,
    /// The pixels on the other side of the edge, without the outermost ones.
    Reflected,
}

/// A convolution with bias over (frames, channels, height, width).
#[derive(Debug)]
pub struct CausalConv3d {
    kernel: Kernel,
    outputs: usize,
    inputs: usize,
    /// Frames, rows, columns.
    size: [usize; 3],
    /// (outputs)
    bias: Tensor,
    /// Frames from one result to the next.
    time_step: usize,
    padding: Padding,
    edges: Edges,
}

/// The weights, kept once.
#[derive(Debug)]
enum Kernel {
    /// (outputs, inputs, frames, rows, columns)
    Dense(Tensor),
    /// For the processor; inputs are those of each frame of the kernel, one frame after another.
    Direct(Direct),
    /// For a GPU.
    Packed(Packed),
}

impl CausalConv3d {
    /// `weight` and `bias` below `weights`, for a kernel of `size` (frames, rows, columns). Rows and
    /// columns are padded with zeros so that pictures keep their size.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        size: [usize; 3],
        time_step: usize,
    ) -> Result<Self> {
        let [frames, rows, columns] = size;
        let weight = weights.get_kernel("weight", &[outputs, inputs, frames, rows, columns])?;
        Self::new(weight, weights.get("bias", &[outputs])?, time_step)
    }

    fn new(weight: Tensor, bias: Tensor, time_step: usize) -> Result<Self> {
        let (outputs, inputs, frames, rows, columns) = weight.dims5()?;
        if !(1..=frames).contains(&time_step) || rows % 2 == 0 || columns % 2 == 0 {
            bail_shape!("a kernel of {:?} with a step of {time_step}", weight.dims());
        }
        let packed = Packed::new(&weight, 1)?;
        let direct = {
            let shape = (outputs, inputs, frames, rows * columns);
            let direct = |stored| Direct::plain(stored, (outputs, frames * inputs, rows, columns));
            let (storage, layout) = weight.storage_and_layout();
            match (&*storage, layout.contiguous_offsets()) {
                _ if packed.is_some() => None,
                (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => {
                    Some(direct(Stored::F32(&by_frames(&data[start..end], shape))))
                }
                (Storage::Cpu(CpuStorage::BF16(data)), Some((start, end)))
                    if bias.dtype() == DType::F32 =>
                {
                    Some(direct(Stored::Bf16(&by_frames(&data[start..end], shape))))
                }
                _ => None,
            }
        };
        let kernel = match (packed, direct) {
            (Some(packed), _) => Kernel::Packed(packed),
            (None, Some(direct)) => Kernel::Direct(direct),
            (None, None) => Kernel::Dense(weight),
        };
        Ok(Self {
            kernel,
            outputs,
            inputs,
            size: [frames, rows, columns],
            bias,
            time_step,
            padding: Padding {
                top: rows / 2,
                bottom: rows / 2,
                left: columns / 2,
                right: columns / 2,
            },
            edges: Edges::Zeros,
        })
    }

    /// The same with other edges.
    pub fn with_edges(mut self, edges: Edges) -> Self {
        self.edges = edges;
        self
    }

    /// Frames that a result sees.
    pub fn frames(&self) -> usize {
        self.size[0]
    }

    /// Frames of the past that a run needs.
    fn reach(&self) -> usize {
        self.size[0] - self.time_step
    }

    /// (frames, inputs, h, w) → (frames / time step, outputs, h, w), plus `residual`, which has the
    /// result's shape. The frames go into the history.
    pub fn forward(
        &self,
        x: &Tensor,
        history: &mut History,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let p = self.padding;
        let is_room = self.edges == Edges::Zeros || (height > p.top && width > p.left);
        let fits = inputs == self.inputs
            && is_room
            && frames > 0
            && frames.is_multiple_of(self.time_step)
            && history
                .0
                .as_ref()
                .is_none_or(|past| past.dims() == [self.reach(), inputs, height, width]);
        if !fits {
            bail_shape!(
                "a convolution of {} channels over time, step {}, of {:?}",
                self.inputs,
                self.time_step,
                x.dims()
            );
        }
        let past = history.0.take();
        let results = frames / self.time_step;
        let shape = (results, self.outputs, height, width);
        if let Some(residual) = residual
            && residual.dims4()? != shape
        {
            bail_shape!("residual {:?} of frames of {shape:?}", residual.dims());
        }
        let y = match &self.kernel {
            Kernel::Direct(direct) if is_cpu_f32(x) => {
                let x = x.contiguous()?;
                self.run_direct(direct, &x, past.as_ref(), residual, shape)?
            }
            kernel => {
                let ran = match kernel {
                    Kernel::Packed(packed) => {
                        packed.run(&self.input(x, past.as_ref(), residual))?
                    }
                    _ => None,
                };
                if let Some(y) = ran {
                    self.remember(x, past.as_ref(), history)?;
                    return Ok(y);
                }
                let y = self.forward_portable(x, past.as_ref())?;
                match residual {
                    Some(residual) => (y + residual)?,
                    None => y,
                }
            }
        };
        self.remember(x, past.as_ref(), history)?;
        Ok(y)
    }

    /// A run of the GPU's kernels.
    fn input<'a>(
        &'a self,
        x: &'a Tensor,
        past: Option<&'a Tensor>,
        residual: Option<&'a Tensor>,
    ) -> Input<'a> {
        let p = self.padding;
        Input {
            x,
            past: past.filter(|_| self.reach() > 0),
            bias: &self.bias,
            residual,
            time_step: self.time_step,
            padding: [p.top, p.bottom, p.left, p.right],
            is_enlarged: false,
            is_reflected: self.edges == Edges::Reflected,
        }
    }

    /// Keeps frames for the next run without a result of their own.
    pub fn skip(&self, x: &Tensor, history: &mut History) -> Result<()> {
        let past = history.0.take();
        self.remember(x, past.as_ref(), history)
    }

    fn remember(&self, x: &Tensor, past: Option<&Tensor>, history: &mut History) -> Result<()> {
        let (frames, inputs, height, width) = x.dims4()?;
        let reach = self.reach();
        if reach == 0 {
            return Ok(());
        }
        let fresh = frames.min(reach);
        // Copies, so that what the frames were part of is not kept alive.
        let last = x.narrow(0, frames - fresh, fresh)?.copy()?;
        history.0 = Some(if fresh == reach {
            last
        } else {
            let missing = reach - fresh;
            let before = match past {
                Some(past) => past.narrow(0, fresh, missing)?.contiguous()?,
                None => Tensor::zeros((missing, inputs, height, width), x.dtype(), x.device())?,
            };
            Tensor::cat(&[&before, &last], 0)?
        });
        Ok(())
    }

    fn run_direct(
        &self,
        direct: &Direct,
        x: &Tensor,
        past: Option<&Tensor>,
        residual: Option<&Tensor>,
        shape: (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let [_, rows, columns] = self.size;
        let geometry = Geometry::new(height, width, self.padding, rows, columns);
        let frame = inputs * geometry.plane();
        let reach = self.reach();
        let mut padded = geometry.padded_zeros((reach + frames) * inputs);
        if let Some(past) = past {
            let past = past.contiguous()?;
            geometry.pad_into(&f32s(&past)?, &mut padded[..reach * frame]);
        }
        geometry.pad_into(&f32s(x)?, &mut padded[reach * frame..][..frames * frame]);
        if self.edges == Edges::Reflected {
            geometry.reflect(&mut padded[..(reach + frames) * frame]);
        }
        let residual = residual.map(Tensor::contiguous).transpose()?;
        let residual = residual.as_ref().map(f32s).transpose()?;
        let bias = f32s(&self.bias)?;
        let len = self.outputs * height * width;
        let mut out = vec![0f32; shape.0 * len];
        let mut images: Vec<Image> = out
            .chunks_exact_mut(len.max(1))
            .enumerate()
            .map(|(i, out)| Image {
                padded: &padded[i * self.time_step * frame..],
                bias: &bias,
                residual: residual.as_ref().map(|data| &data[i * len..][..len]),
                out,
            })
            .collect();
        direct.run(&geometry, &mut images);
        tensor(out, shape)
    }

    /// The same in candle operations: the results of each frame of the kernel, added up.
    pub(crate) fn forward_portable(&self, x: &Tensor, past: Option<&Tensor>) -> Result<Tensor> {
        let weight = match &self.kernel {
            Kernel::Dense(weight) => weight.clone(),
            Kernel::Packed(packed) => packed.dense()?,
            Kernel::Direct(_) => {
                bail_shape!("a convolution packed for f32 on the processor got {x:?}")
            }
        };
        let (frames, ..) = x.dims4()?;
        let reach = self.reach();
        let all = match past {
            Some(past) if reach > 0 => Tensor::cat(&[past, x], 0)?,
            _ => x.pad_with_zeros(0, reach, 0)?,
        };
        let p = self.padding;
        let all = match self.edges {
            Edges::Zeros => all
                .pad_with_zeros(2, p.top, p.bottom)?
                .pad_with_zeros(3, p.left, p.right)?,
            Edges::Reflected => reflect(&reflect(&all, 2, p.top)?, 3, p.left)?,
        };
        let results = frames / self.time_step;
        let mut sum: Option<Tensor> = None;
        for frame in 0..self.size[0] {
            let indices: Vec<u32> = (0..results)
                .map(|i| (i * self.time_step + frame) as u32)
                .collect();
            let part = if self.time_step == 1 {
                all.narrow(0, frame, results)?.contiguous()?
            } else {
                all.index_select(&Tensor::new(indices, x.device())?, 0)?
            };
            let weight = weight.narrow(2, frame, 1)?.squeeze(2)?.contiguous()?;
            // Sums of many products in 16 bits would lose what f32 keeps.
            let y = halves::conv2d(&part, &weight, 1)?;
            let y = y.to_dtype(DType::F32)?;
            sum = Some(match sum {
                Some(sum) => (sum + y)?,
                None => y,
            });
        }
        let Some(sum) = sum else {
            bail_shape!("a kernel without frames");
        };
        let bias = self.bias.to_dtype(DType::F32)?;
        let y = sum.broadcast_add(&bias.reshape((1, self.outputs, 1, 1))?)?;
        Ok(y.to_dtype(x.dtype())?)
    }
}

/// Weights (outputs, inputs, frames, taps) as (outputs, frames, inputs, taps).
fn by_frames<T: Copy>(
    stored: &[T],
    (outputs, inputs, frames, taps): (usize, usize, usize, usize),
) -> Vec<T> {
    let mut ordered = Vec::with_capacity(stored.len());
    for output in 0..outputs {
        for frame in 0..frames {
            for input in 0..inputs {
                let from = ((output * inputs + input) * frames + frame) * taps;
                ordered.extend_from_slice(&stored[from..from + taps]);
            }
        }
    }
    ordered
}

/// A tensor with `border` more places at both ends of a dimension, which mirror those within.
fn reflect(x: &Tensor, dim: usize, border: usize) -> Result<Tensor> {
    let size = x.dim(dim)? as i64;
    let places: Vec<u32> = (-(border as i64)..size + border as i64)
        .map(|place| {
            let inside = place.abs();
            inside.min(2 * (size - 1) - inside) as u32
        })
        .collect();
    Ok(x.index_select(&Tensor::new(places, x.device())?, dim)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    fn conv(inputs: usize, outputs: usize, size: [usize; 3], time_step: usize) -> CausalConv3d {
        let scale = 1.0 / (inputs * size.iter().product::<usize>()) as f64;
        let [frames, rows, columns] = size;
        let weight = wave(&[outputs, inputs, frames, rows, columns])
            .affine(scale, 0.3 * scale)
            .unwrap();
        CausalConv3d::new(weight, wave(&[outputs]), time_step).unwrap()
    }

    /// The same with its weights as stored.
    fn dense(inputs: usize, outputs: usize, size: [usize; 3], time_step: usize) -> CausalConv3d {
        let scale = 1.0 / (inputs * size.iter().product::<usize>()) as f64;
        let [frames, rows, columns] = size;
        let mut conv = conv(inputs, outputs, size, time_step);
        conv.kernel = Kernel::Dense(
            wave(&[outputs, inputs, frames, rows, columns])
                .affine(scale, 0.3 * scale)
                .unwrap(),
        );
        conv
    }

    const KINDS: [([usize; 3], usize); 4] = [
        ([3, 3, 3], 1),
        ([3, 1, 1], 1),
        ([1, 1, 1], 1),
        ([3, 1, 1], 2),
    ];

    #[test]
    fn every_kind_equals_candle_with_and_without_a_past() {
        for (size, step) in KINDS {
            let (ours, theirs) = (conv(5, 11, size, step), dense(5, 11, size, step));
            let (mut left, mut right) = (History::default(), History::default());
            for (frames, height, width) in [(2, 7, 30), (4, 7, 30), (2, 7, 30)] {
                let x = wave(&[frames, 5, height, width]).affine(1.0, 0.2).unwrap();
                let residual = wave(&[frames / step, 11, height, width]);
                let a = ours.forward(&x, &mut left, Some(&residual)).unwrap();
                let b = theirs.forward(&x, &mut right, Some(&residual)).unwrap();
                assert_close(&a, &b, 1e-5);
            }
        }
    }

    #[test]
    fn edges_may_mirror_the_pixels() {
        let (size, step) = KINDS[0];
        let ours = conv(5, 11, size, step).with_edges(Edges::Reflected);
        let theirs = dense(5, 11, size, step).with_edges(Edges::Reflected);
        let x = wave(&[3, 5, 4, 9]);
        let a = ours.forward(&x, &mut History::default(), None).unwrap();
        let b = theirs.forward(&x, &mut History::default(), None).unwrap();
        assert_close(&a, &b, 1e-5);
        let zeros = conv(5, 11, size, step)
            .forward(&x, &mut History::default(), None)
            .unwrap();
        let corner = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        assert_ne!(corner(&a), corner(&zeros));
        let mirrored = reflect(&wave(&[1, 4]), 1, 1).unwrap();
        let places = mirrored.to_vec2::<f32>().unwrap().remove(0);
        assert_eq!((places[0], places[5]), (places[2], places[3]));
        let thin = wave(&[1, 5, 1, 9]);
        assert!(ours.forward(&thin, &mut History::default(), None).is_err());
    }

    #[test]
    fn runs_of_any_length_give_the_same_bits() {
        let small = KINDS.map(|(size, step)| (conv(6, 9, size, step), wave(&[8, 6, 13, 21])));
        // Large enough for fewer multiplications.
        let large = (conv(32, 40, [3, 3, 3], 1), wave(&[8, 32, 33, 30]));
        for (conv, x) in small.into_iter().chain([large]) {
            let whole = conv.forward(&x, &mut History::default(), None).unwrap();
            for cuts in [[2, 2, 2, 2].as_slice(), &[4, 4], &[2, 6]] {
                let mut history = History::default();
                let (mut first, mut parts) = (0, Vec::new());
                for frames in cuts {
                    let x = x.narrow(0, first, *frames).unwrap();
                    parts.push(conv.forward(&x, &mut history, None).unwrap());
                    first += frames;
                }
                assert_close(&Tensor::cat(&parts, 0).unwrap(), &whole, 0.0);
            }
        }
    }

    #[test]
    fn kernels_stay_in_the_format_that_they_are_stored_in() {
        let weight = wave(&[40, 33, 3, 3, 3]).affine(1e-3, 0.0).unwrap();
        let half = weight.to_dtype(DType::BF16).unwrap();
        let wide = half.to_dtype(DType::F32).unwrap();
        let half = CausalConv3d::new(half, wave(&[40]), 1).unwrap();
        let wide = CausalConv3d::new(wide, wave(&[40]), 1).unwrap();
        assert!(matches!(&half.kernel, Kernel::Direct(kernel) if kernel.bytes() == 40 * 33 * 54));
        for x in [wave(&[2, 33, 5, 7]), wave(&[2, 33, 32, 34])] {
            let ours = half.forward(&x, &mut History::default(), None).unwrap();
            let theirs = wide.forward(&x, &mut History::default(), None).unwrap();
            assert_close(&ours, &theirs, 0.0);
        }
    }

    #[test]
    fn skipped_frames_are_the_past_of_the_next() {
        let conv = conv(4, 4, [3, 1, 1], 2);
        let x = wave(&[5, 4, 3, 3]);
        let mut history = History::default();
        conv.skip(&x.narrow(0, 0, 1).unwrap(), &mut history)
            .unwrap();
        let y = conv
            .forward(&x.narrow(0, 1, 4).unwrap(), &mut history, None)
            .unwrap();
        assert_eq!(y.dims(), [2, 4, 3, 3]);
        // Without the step's lead-in, two results later: the same three frames.
        let mut other = History::default();
        conv.skip(&x.narrow(0, 2, 1).unwrap(), &mut other).unwrap();
        let z = conv
            .forward(&x.narrow(0, 3, 2).unwrap(), &mut other, None)
            .unwrap();
        assert_close(&y.narrow(0, 1, 1).unwrap(), &z, 0.0);
    }

    #[test]
    fn frames_that_do_not_fit_are_an_error() {
        let conv = conv(4, 4, [3, 1, 1], 2);
        let mut history = History::default();
        assert!(
            conv.forward(&wave(&[3, 4, 2, 2]), &mut history, None)
                .is_err()
        );
        assert!(
            conv.forward(&wave(&[2, 5, 2, 2]), &mut history, None)
                .is_err()
        );
        assert!(
            conv.forward(&wave(&[2, 4, 2, 2]), &mut history, None)
                .is_ok()
        );
        assert!(
            conv.forward(&wave(&[2, 4, 3, 2]), &mut history, None)
                .is_err()
        );
    }
}
