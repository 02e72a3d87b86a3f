//! Convolution of pictures, alone or together with what stands next to it in a VAE: the
//! nearest-neighbour enlargement before it, the addition of a residual after it. Frames that follow
//! each other are in [`causal`], signals in [`line`].
//!
//! On the processor 1×1 kernels are matrix products, kernels with a step of one run in [`direct`]
//! without an intermediate matrix, large 3×3 ones in [`winograd`] with fewer multiplications, and
//! the rest gather a row of patches at a time. On a GPU they run in `kernels/conv.cuh`.

mod adapt;
mod causal;
mod direct;
mod line;
mod pixels;
mod winograd;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, DType, Storage, Tensor};
use rayon::prelude::*;

use self::{
    adapt::Origin,
    direct::{Direct, Geometry, Image, Stored},
    pixels::add_columns,
};
pub use self::{
    causal::{CausalConv3d, Edges, History},
    line::{Conv1d, Lengthening},
};
use super::{
    cpu::{f32s, is_cpu_f32, tensor},
    halves,
    upsample::upsample_nearest,
    weights::Weights,
};
use crate::{
    Result,
    error::bail_shape,
    kernels::conv::{Input, Packed},
};

/// Zeros around the input, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Above.
    pub top: usize,
    /// Below.
    pub bottom: usize,
    /// On the left.
    pub left: usize,
    /// On the right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub fn all(pixels: usize) -> Self {
        Self {
            top: pixels,
            bottom: pixels,
            left: pixels,
            right: pixels,
        }
    }

    /// Below and on the right only, as before the downsampling of VAE encoders.
    pub fn bottom_right(pixels: usize) -> Self {
        Self {
            bottom: pixels,
            right: pixels,
            ..Self::default()
        }
    }
}

/// A convolution with bias over (batch, channels, height, width).
#[derive(Debug)]
pub struct Conv2d {
    kernel: Kernel,
    /// (outputs, inputs, kernel height, kernel width)
    shape: (usize, usize, usize, usize),
    /// (outputs)
    bias: Tensor,
    step: usize,
    padding: Padding,
    /// Where it was read; None when it was made from tensors.
    origin: Option<Arc<Origin>>,
    /// Whether the kernel holds what adapters made of it.
    is_merged: bool,
    has_merged_bias: bool,
}

/// How weights are laid out for the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// As stored.
    None,
    /// For [`Direct::plain`].
    Plain,
    /// For [`Direct::enlarging`].
    Enlarging,
}

impl Packing {
    /// The kernel in the number format that this layout takes.
    fn load(self, weights: &Weights, shape: &[usize]) -> Result<Tensor> {
        match self {
            // Products of matrices and candle's operations want f32.
            Self::None => weights.get("weight", shape),
            Self::Plain | Self::Enlarging => weights.get_kernel("weight", shape),
        }
    }

    fn pack(self, stored: Stored, shape: (usize, usize, usize, usize)) -> Option<Direct> {
        match self {
            Self::None => None,
            Self::Plain => Some(Direct::plain(stored, shape)),
            Self::Enlarging => Some(Direct::enlarging(stored, shape)),
        }
    }
}

/// The weights, kept once.
#[derive(Debug)]
enum Kernel {
    /// As stored.
    Dense(Tensor),
    /// As the processor's kernel wants them.
    Direct(Direct),
    /// As the kernels of a GPU want them.
    Packed(Packed),
}

impl Conv2d {
    /// `weight` and `bias` below `weights`; a square kernel.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        step: usize,
        padding: Padding,
    ) -> Result<Self> {
        let packing = match step <= 1 && kernel > 1 {
            true => Packing::Plain,
            false => Packing::None,
        };
        Self::read(
            weights,
            [outputs, inputs, kernel, kernel],
            (step, padding),
            packing,
        )
    }

    fn read(
        weights: &Weights,
        shape: [usize; 4],
        (step, padding): (usize, Padding),
        packing: Packing,
    ) -> Result<Self> {
        let weight = packing.load(weights, &shape)?;
        let bias = weights.get("bias", &shape[..1])?;
        let mut conv = Self::new(weight, bias, step, padding)?.packed(packing)?;
        conv.origin = Some(Arc::new(Origin::new(weights, packing)));
        Ok(conv)
    }

    /// A kernel over several frames, (outputs, inputs, frames, kernel, kernel), as one over pictures
    /// that hold the channels of these frames one after another.
    pub fn load_frames(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        (frames, kernel): (usize, usize),
        step: usize,
        padding: Padding,
    ) -> Result<Self> {
        let weight = weights.get("weight", &[outputs, inputs, frames, kernel, kernel])?;
        let weight = weight.transpose(1, 2)?.contiguous()?;
        let weight = weight.reshape((outputs, frames * inputs, kernel, kernel))?;
        Self::new(weight, weights.get("bias", &[outputs])?, step, padding)?.packed(Packing::None)
    }

    /// A 3×3 kernel over the input enlarged to twice its size, with step 1 and padding 1.
    ///
    /// Each of the four phases of the result sees only 2×2 different source pixels, so that kernel
    /// rows and columns that fall on the same pixel can be added up beforehand.
    pub fn load_enlarging(weights: &Weights, inputs: usize, outputs: usize) -> Result<Enlarging> {
        let geometry = (1, Padding::all(1));
        let conv = Self::read(
            weights,
            [outputs, inputs, 3, 3],
            geometry,
            Packing::Enlarging,
        )?;
        Ok(Enlarging::new(conv))
    }

    fn new(weight: Tensor, bias: Tensor, step: usize, padding: Padding) -> Result<Self> {
        Ok(Self {
            shape: weight.dims4()?,
            kernel: Kernel::Dense(weight),
            bias,
            step: step.max(1),
            padding,
            origin: None,
            is_merged: false,
            has_merged_bias: false,
        })
    }

    /// With its weights packed, where the processor's kernel applies.
    fn packed(mut self, packing: Packing) -> Result<Self> {
        if let Kernel::Dense(weight) = &self.kernel {
            self.kernel = self.keep(weight.clone(), packing)?;
        }
        Ok(self)
    }

    /// A kernel as runs take it.
    fn keep(&self, weight: Tensor, packing: Packing) -> Result<Kernel> {
        if let Some(packed) = Packed::new(&weight.unsqueeze(2)?, self.step)? {
            return Ok(Kernel::Packed(packed));
        }
        let direct = {
            let (storage, layout) = weight.storage_and_layout();
            let stored = match (&*storage, layout.contiguous_offsets()) {
                (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => {
                    Some(Stored::F32(&data[start..end]))
                }
                (Storage::Cpu(CpuStorage::BF16(data)), Some((start, end)))
                    if self.bias.dtype() == DType::F32 =>
                {
                    Some(Stored::Bf16(&data[start..end]))
                }
                _ => None,
            };
            stored.and_then(|stored| packing.pack(stored, self.shape))
        };
        Ok(match direct {
            Some(direct) => Kernel::Direct(direct),
            None => Kernel::Dense(weight),
        })
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let size = self.bias.dtype().size_in_bytes();
        let kernel = match &self.kernel {
            Kernel::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Kernel::Direct(direct) => direct.bytes(),
            Kernel::Packed(packed) => packed.bytes() as usize,
        };
        (kernel + self.bias.elem_count() * size) as u64
    }

    /// (batch, inputs, h, w) → (batch, outputs, h′, w′)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.convolve(x, None)
    }

    /// The convolution with numbers of its own for each image added to the bias: (batch, outputs).
    pub fn forward_shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.check_inputs(x)?;
        let outputs = self.shape.0;
        if shift.dims() != [x.dim(0)?, outputs] {
            bail_shape!("a shift of {:?} for {:?}", shift.dims(), x.dims());
        }
        match &self.kernel {
            Kernel::Direct(direct) if is_cpu_f32(x) && is_cpu_f32(shift) => {
                let biases = shift.broadcast_add(&self.bias)?.contiguous()?;
                self.run_direct(direct, x, &f32s(&biases)?, None)
            }
            Kernel::Packed(packed) if x.elem_count() > 0 => {
                let biases = shift
                    .to_dtype(DType::F32)?
                    .broadcast_add(&self.bias.to_dtype(DType::F32)?)?;
                match packed.run(&self.input(x, &biases, None))? {
                    Some(y) => Ok(y),
                    None => self.shift(x, shift),
                }
            }
            _ => self.shift(x, shift),
        }
    }

    /// [`forward_shifted`](Self::forward_shifted) in two steps.
    fn shift(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let shift = shift.reshape((x.dim(0)?, self.shape.0, 1, 1))?;
        Ok(self.convolve(x, None)?.broadcast_add(&shift)?)
    }

    /// A run of the GPU's kernels.
    fn input<'a>(
        &self,
        x: &'a Tensor,
        bias: &'a Tensor,
        residual: Option<&'a Tensor>,
    ) -> Input<'a> {
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.padding;
        Input {
            x,
            past: None,
            bias,
            residual,
            time_step: 1,
            padding: [top, bottom, left, right],
            is_enlarged: false,
            is_reflected: false,
        }
    }

    /// The convolution plus `residual`, which has the result's shape.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.convolve(x, Some(residual))
    }

    fn check_inputs(&self, x: &Tensor) -> Result<()> {
        let (_, inputs, kernel_height, kernel_width) = self.shape;
        let (_, channels, height, width) = x.dims4()?;
        let p = self.padding;
        let fits = channels == inputs
            && height + p.top + p.bottom >= kernel_height
            && width + p.left + p.right >= kernel_width;
        if !fits {
            bail_shape!("convolution {:?} of {:?}", self.shape, x.dims());
        }
        Ok(())
    }

    fn convolve(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        self.check_inputs(x)?;
        if let Kernel::Packed(packed) = &self.kernel
            && let Some(y) = packed.run(&self.input(x, &self.bias, residual))?
        {
            return Ok(y);
        }
        if !is_cpu_f32(x) {
            let y = self.forward_portable(x)?;
            return Ok(match residual {
                Some(residual) => (y + residual)?,
                None => y,
            });
        }
        let unpacked;
        let weight = match &self.kernel {
            Kernel::Direct(direct) => {
                return self.run_direct(direct, x, &f32s(&self.bias)?, residual);
            }
            Kernel::Dense(weight) => weight,
            Kernel::Packed(packed) => {
                unpacked = packed.dense()?.squeeze(2)?;
                &unpacked
            }
        };
        let (_, _, kernel_height, kernel_width) = self.shape;
        let is_pointwise = kernel_height == 1 && kernel_width == 1;
        if is_pointwise && self.step == 1 && self.padding == Padding::default() {
            return self.multiply_pixels(weight, x, residual);
        }
        let y = self.gather(weight, x)?;
        Ok(match residual {
            Some(residual) => (y + residual)?,
            None => y,
        })
    }

    /// `bias`: (outputs), or (batch, outputs) with one for each image.
    fn run_direct(
        &self,
        direct: &Direct,
        x: &Tensor,
        bias: &[f32],
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, inputs, height, width) = x.dims4()?;
        let (outputs, _, kernel_height, kernel_width) = self.shape;
        let geometry = Geometry::new(height, width, self.padding, kernel_height, kernel_width);
        let (rows, columns) = (
            geometry.out_height * direct.enlargement(),
            geometry.out_width * direct.enlargement(),
        );
        let shape = (batch, outputs, rows, columns);
        let x = x.contiguous()?;
        let residual = residual.map(Tensor::contiguous).transpose()?;
        if let Some(residual) = &residual
            && residual.dims4()? != shape
        {
            bail_shape!(
                "residual {:?} of a convolution to {shape:?}",
                residual.dims()
            );
        }
        let residual = residual.as_ref().map(f32s).transpose()?;
        let source = f32s(&x)?;
        let (image_in, image_out) = (inputs * geometry.plane(), outputs * rows * columns);
        let mut padded = geometry.padded_zeros(batch * inputs);
        geometry.pad_into(&source, &mut padded[..batch * image_in]);
        let mut out = vec![0f32; batch * image_out];
        let mut images: Vec<Image> = out
            .chunks_exact_mut(image_out.max(1))
            .enumerate()
            .map(|(b, out)| Image {
                padded: &padded[b * image_in..],
                bias: match bias.len() == outputs {
                    true => bias,
                    false => &bias[b * outputs..][..outputs],
                },
                residual: residual
                    .as_ref()
                    .map(|data| &data[b * image_out..][..image_out]),
                out,
            })
            .collect();
        direct.run(&geometry, &mut images);
        tensor(out, shape)
    }

    /// A 1×1 kernel: (outputs × inputs) · (inputs × pixels).
    fn multiply_pixels(
        &self,
        weight: &Tensor,
        x: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, inputs, height, width) = x.dims4()?;
        let outputs = self.shape.0;
        let pixels = height * width;
        let x = x.contiguous()?;
        let residual = residual.map(Tensor::contiguous).transpose()?;
        let residual = residual.as_ref().map(f32s).transpose()?;
        let (source, weight, bias) = (f32s(&x)?, f32s(weight)?, f32s(&self.bias)?);
        let mut out = vec![0f32; batch * outputs * pixels];
        if let Some(residual) = &residual {
            out.copy_from_slice(residual);
        }
        for (row, out) in out.chunks_exact_mut(pixels.max(1)).enumerate() {
            let bias = bias[row % outputs];
            out.iter_mut().for_each(|value| *value += bias);
        }
        for (b, out) in out.chunks_exact_mut((outputs * pixels).max(1)).enumerate() {
            let source = &source[b * inputs * pixels..][..inputs * pixels];
            add_columns(&weight, source, pixels, out, true);
        }
        tensor(out, (batch, outputs, height, width))
    }

    /// Any kernel and step: the patches of one output row as a matrix, times the kernel.
    fn gather(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (batch, inputs, height, width) = x.dims4()?;
        let (outputs, _, kernel_height, kernel_width) = self.shape;
        let p = self.padding;
        let out_height = (height + p.top + p.bottom - kernel_height) / self.step + 1;
        let out_width = (width + p.left + p.right - kernel_width) / self.step + 1;
        let x = x.contiguous()?;
        let (source, weight, bias) = (f32s(&x)?, f32s(weight)?, f32s(&self.bias)?);
        let patch = inputs * kernel_height * kernel_width;
        let rows: Vec<Vec<f32>> = (0..batch * out_height)
            .into_par_iter()
            .map(|row| {
                let (b, y) = (row / out_height, row % out_height);
                let image = &source[b * inputs * height * width..][..inputs * height * width];
                let mut patches = vec![0f32; patch * out_width];
                for (k, patches) in patches.chunks_exact_mut(out_width).enumerate() {
                    let (channel, dy, dx) = (
                        k / (kernel_height * kernel_width),
                        k / kernel_width % kernel_height,
                        k % kernel_width,
                    );
                    let source_y = (y * self.step + dy).wrapping_sub(p.top);
                    if source_y >= height {
                        continue;
                    }
                    let line = &image[(channel * height + source_y) * width..][..width];
                    for (column, value) in patches.iter_mut().enumerate() {
                        let source_x = (column * self.step + dx).wrapping_sub(p.left);
                        if let Some(&pixel) = line.get(source_x) {
                            *value = pixel;
                        }
                    }
                }
                let mut out = vec![0f32; outputs * out_width];
                add_columns(&weight, &patches, out_width, &mut out, false);
                out
            })
            .collect();
        let mut out = vec![0f32; batch * outputs * out_height * out_width];
        for (row, values) in rows.iter().enumerate() {
            let (b, y) = (row / out_height, row % out_height);
            for (output, values) in values.chunks_exact(out_width).enumerate() {
                let start = ((b * outputs + output) * out_height + y) * out_width;
                for (out, value) in out[start..][..out_width].iter_mut().zip(values) {
                    *out = value + bias[output];
                }
            }
        }
        tensor(out, (batch, outputs, out_height, out_width))
    }

    /// The same in candle operations.
    pub(crate) fn forward_portable(&self, x: &Tensor) -> Result<Tensor> {
        let weight = match &self.kernel {
            Kernel::Dense(weight) => weight.clone(),
            Kernel::Packed(packed) => packed.dense()?.squeeze(2)?,
            Kernel::Direct(_) => {
                bail_shape!("a convolution packed for f32 on the processor got {x:?}")
            }
        };
        let p = self.padding;
        let x = x
            .pad_with_zeros(2, p.top, p.bottom)?
            .pad_with_zeros(3, p.left, p.right)?;
        let y = halves::conv2d(&x, &weight, self.step)?;
        let bias = self.bias.to_dtype(x.dtype())?;
        Ok(y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)?)
    }
}

/// A convolution of the input enlarged to twice its size.
#[derive(Debug)]
pub struct Enlarging {
    conv: Conv2d,
    /// The kernel that is not spread over phases, for odd sizes; made when one is asked for.
    plain: OnceLock<Option<Direct>>,
}

impl Enlarging {
    fn new(conv: Conv2d) -> Self {
        Self {
            conv,
            plain: OnceLock::new(),
        }
    }

    /// (batch, inputs, h, w) → (batch, outputs, 2h, 2w)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.conv.kernel {
            Kernel::Direct(direct) if is_cpu_f32(x) => {
                self.conv.check_inputs(x)?;
                self.conv
                    .run_direct(direct, x, &f32s(&self.conv.bias)?, None)
            }
            Kernel::Packed(packed) => {
                self.conv.check_inputs(x)?;
                let mut input = self.conv.input(x, &self.conv.bias, None);
                input.is_enlarged = true;
                match packed.run(&input)? {
                    Some(y) => Ok(y),
                    None => self.conv.forward_portable(&upsample_nearest(x)?),
                }
            }
            _ => self.conv.forward_portable(&upsample_nearest(x)?),
        }
    }

    /// The same with a result of `height` × `width`, each twice the input's or one less: what was
    /// halved from an odd size becomes odd again.
    pub fn forward_to(&self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let (_, _, rows, columns) = x.dims4()?;
        if (height, width) == (2 * rows, 2 * columns) {
            return self.forward(x);
        }
        let is_near = |size: usize, half: usize| size == 2 * half || size + 1 == 2 * half;
        if !is_near(height, rows) || !is_near(width, columns) {
            bail_shape!("{rows} × {columns} enlarged to {height} × {width}");
        }
        let large = upsample_nearest(x)?
            .narrow(2, 0, height)?
            .narrow(3, 0, width)?
            .contiguous()?;
        match &self.conv.kernel {
            Kernel::Direct(direct) if is_cpu_f32(x) => {
                self.conv.check_inputs(x)?;
                match self.plain.get_or_init(|| direct.plain_part()) {
                    Some(plain) => {
                        self.conv
                            .run_direct(plain, &large, &f32s(&self.conv.bias)?, None)
                    }
                    None => bail_shape!("a convolution that does not enlarge"),
                }
            }
            Kernel::Packed(_) => self.conv.forward(&large),
            _ => self.conv.forward_portable(&large),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    fn dense(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        step: usize,
        padding: Padding,
    ) -> Conv2d {
        let scale = 1.0 / (inputs * kernel * kernel) as f64;
        let weight = wave(&[outputs, inputs, kernel, kernel])
            .affine(scale, 0.3 * scale)
            .unwrap();
        Conv2d::new(weight, wave(&[outputs]), step, padding).unwrap()
    }

    #[test]
    fn every_way_equals_candle() {
        let all = Padding::all;
        for (inputs, outputs, kernel, step, padding) in [
            (5, 3, 3, 1, all(1)),
            (16, 13, 3, 1, all(1)),
            (3, 17, 5, 1, all(2)),
            (4, 4, 3, 1, Padding::default()),
            (6, 9, 1, 1, all(0)),
            (7, 10, 3, 2, Padding::bottom_right(1)),
            (3, 8, 3, 2, all(1)),
        ] {
            let reference = dense(inputs, outputs, kernel, step, padding);
            let conv = dense(inputs, outputs, kernel, step, padding);
            let conv = if kernel > 1 && step == 1 {
                conv.packed(Packing::Plain).unwrap()
            } else {
                conv
            };
            for (batch, height, width) in [(2, 5, 6), (1, 33, 70), (1, 9, 3)] {
                let x = wave(&[batch, inputs, height, width]);
                let (ours, theirs) = (
                    conv.forward(&x).unwrap(),
                    reference.forward_portable(&x).unwrap(),
                );
                assert_close(&ours, &theirs, 1e-5);
                let residual = wave(theirs.dims()).affine(2.0, 1.0).unwrap();
                let sum = conv.forward_add(&x, &residual).unwrap();
                assert_close(&sum, &(theirs + residual).unwrap(), 1e-5);
            }
        }
    }

    #[test]
    fn enlarging_inside_equals_enlarging_first() {
        let reference = dense(10, 12, 3, 1, Padding::all(1));
        let conv = dense(10, 12, 3, 1, Padding::all(1));
        let conv = Enlarging::new(conv.packed(Packing::Enlarging).unwrap());
        for (batch, height, width) in [(2, 4, 5), (1, 31, 64)] {
            let x = wave(&[batch, 10, height, width]);
            let first =
                reference.forward_portable(&x.upsample_nearest2d(2 * height, 2 * width).unwrap());
            assert_close(&conv.forward(&x).unwrap(), &first.unwrap(), 1e-5);
            for (rows, columns) in [(2 * height - 1, 2 * width), (2 * height - 1, 2 * width - 1)] {
                let large = x.upsample_nearest2d(rows, columns).unwrap();
                let odd = conv.forward_to(&x, rows, columns).unwrap();
                assert_close(&odd, &reference.forward_portable(&large).unwrap(), 1e-5);
            }
            assert!(conv.forward_to(&x, 2 * height + 1, 2 * width).is_err());
        }
    }

    #[test]
    fn weights_stay_as_they_are_stored_and_each_image_may_have_its_own_bias() {
        let narrow = |tensor: &Tensor| tensor.to_dtype(DType::BF16).unwrap();
        let exact = |tensor: &Tensor| narrow(tensor).to_dtype(DType::F32).unwrap();
        let weight = wave(&[13, 10, 3, 3]).affine(0.02, 0.0).unwrap();
        let padding = Padding::all(1);
        let reference = Conv2d::new(exact(&weight), wave(&[13]), 1, padding).unwrap();
        let half = Conv2d::new(narrow(&weight), wave(&[13]), 1, padding).unwrap();
        let half = half.packed(Packing::Plain).unwrap();
        let wide = Conv2d::new(exact(&weight), wave(&[13]), 1, padding).unwrap();
        let wide = wide.packed(Packing::Plain).unwrap();
        assert!(half.bytes() < wide.bytes() * 2 / 3);
        let x = wave(&[2, 10, 21, 30]);
        let ours = half.forward(&x).unwrap();
        assert_close(&ours, &wide.forward(&x).unwrap(), 0.0);
        assert_close(&ours, &reference.forward_portable(&x).unwrap(), 1e-5);
        let shift = wave(&[2, 13]);
        let spread = shift.reshape((2, 13, 1, 1)).unwrap();
        let shifted = half.forward_shifted(&x, &shift).unwrap();
        assert_close(&shifted, &ours.broadcast_add(&spread).unwrap(), 1e-5);
        assert!(half.forward_shifted(&x, &wave(&[1, 13])).is_err());
    }

    #[test]
    fn fewer_multiplications_give_the_same_picture() {
        for (inputs, outputs, batch, height, width) in [
            (32, 32, 2, 32, 32),
            (33, 50, 1, 31, 45),
            (48, 37, 1, 7, 260),
            (40, 101, 1, 70, 19),
        ] {
            let reference = dense(inputs, outputs, 3, 1, Padding::all(1));
            let conv = dense(inputs, outputs, 3, 1, Padding::all(1));
            let conv = conv.packed(Packing::Plain).unwrap();
            let x = wave(&[batch, inputs, height, width]);
            let geometry = Geometry::new(height, width, Padding::all(1), 3, 3);
            assert!(winograd::pays(inputs, outputs, &geometry));
            let residual = wave(&[batch, outputs, height, width]);
            let ours = conv.forward_add(&x, &residual).unwrap();
            let theirs = (reference.forward_portable(&x).unwrap() + &residual).unwrap();
            assert_close(&ours, &theirs, 1e-5);
            // A picture has its bits alone and in a batch, on one core and on many.
            let last = batch - 1;
            let (one, add) = (
                x.narrow(0, last, 1).unwrap(),
                residual.narrow(0, last, 1).unwrap(),
            );
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            let alone = pool
                .unwrap()
                .install(|| conv.forward_add(&one, &add).unwrap());
            assert_close(&alone, &ours.narrow(0, last, 1).unwrap(), 0.0);
        }
    }

    #[test]
    fn an_input_that_does_not_fit_is_an_error() {
        let conv = dense(4, 4, 3, 1, Padding::default());
        assert!(conv.forward(&wave(&[1, 5, 8, 8])).is_err());
        assert!(conv.forward(&wave(&[1, 4, 2, 8])).is_err());
        assert!(
            conv.forward_add(&wave(&[1, 4, 8, 8]), &wave(&[1, 4, 8, 8]))
                .is_err()
        );
    }
}
