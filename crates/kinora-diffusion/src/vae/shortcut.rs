//! The way around a level of a video VAE: what a sampler gives up is averaged into channels, what it
//! makes is copied from them. Nothing here is learned.

use candle_core::Tensor;

use crate::{
    Result,
    error::bail_shape,
    layers::{f32s, is_cpu_f32},
};
use rayon::prelude::*;

/// How far a level shrinks or grows, and the channels on its far side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortcut {
    pub outputs: usize,
    /// Frames to one.
    pub time: usize,
    /// Pixels to one, along each side.
    pub side: usize,
}

impl Shortcut {
    fn factor(self) -> usize {
        self.time * self.side * self.side
    }

    /// `y + average(x)`: every cube of frames, rows and columns as channels, of which neighbours are
    /// averaged. x: (frames, inputs, height, width). Frames that do not fill a cube have black ones
    /// before them.
    pub fn add_average(self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let (time, side) = (self.time, self.side);
        let missing = (time - frames % time) % time;
        let results = (frames + missing) / time;
        let group = inputs * self.factor() / self.outputs.max(1);
        let shape = (results, self.outputs, height / side, width / side);
        if y.dims4()? != shape || group * self.outputs != inputs * self.factor() {
            bail_shape!("{:?} around a level from {:?}", y.dims(), x.dims());
        }
        if !(is_cpu_f32(x) && is_cpu_f32(y)) {
            return self.add_average_portable(y, x, missing);
        }
        let (x, y) = (x.contiguous()?, y.contiguous()?);
        let (source, base) = (f32s(&x)?, f32s(&y)?);
        let (rows, columns) = (height / side, width / side);
        let mut out = vec![0f32; base.len()];
        out.par_chunks_mut((rows * columns).max(1))
            .zip(base.par_chunks((rows * columns).max(1)))
            .enumerate()
            .for_each(|(plane, (out, base))| {
                let (result, output) = (plane / self.outputs, plane % self.outputs);
                for i in output * group..(output + 1) * group {
                    let (channel, cube) = (i / self.factor(), i % self.factor());
                    let (dt, dy, dx) = (cube / side / side, cube / side % side, cube % side);
                    let Some(frame) = (result * time + dt).checked_sub(missing) else {
                        continue;
                    };
                    let from = &source[(frame * inputs + channel) * height * width..];
                    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
                        let line = &from[(row * side + dy) * width + dx..];
                        for (out, value) in out.iter_mut().zip(line.iter().step_by(side)) {
                            *out += value;
                        }
                    }
                }
                for (out, base) in out.iter_mut().zip(base) {
                    *out = base + *out / group as f32;
                }
            });
        Ok(Tensor::from_vec(out, shape, x.device())?)
    }

    fn add_average_portable(self, y: &Tensor, x: &Tensor, missing: usize) -> Result<Tensor> {
        let (time, side) = (self.time, self.side);
        let x = x.pad_with_zeros(0, missing, 0)?;
        let (frames, inputs, height, width) = x.dims4()?;
        let (results, rows, columns) = (frames / time, height / side, width / side);
        let cubes = x
            .reshape(&[results, time, inputs, rows, side, columns, side])?
            .permute([0, 2, 1, 4, 6, 3, 5])?
            .contiguous()?
            .reshape((results, self.outputs, (), rows, columns))?;
        Ok((y + cubes.mean(2)?)?)
    }

    /// `y + copies(x)`: channels, repeated where there are too few, as cubes of frames, rows and
    /// columns. The clip's first frame grows no others before it.
    pub fn add_copies(self, y: &Tensor, x: &Tensor, is_first: bool) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let (time, side) = (self.time, self.side);
        let skipped = if is_first { time - 1 } else { 0 };
        let repeats = self.outputs * self.factor() / inputs.max(1);
        let shape = (
            frames * time - skipped,
            self.outputs,
            height * side,
            width * side,
        );
        if y.dims4()? != shape || repeats * inputs != self.outputs * self.factor() {
            bail_shape!("{:?} around a level from {:?}", y.dims(), x.dims());
        }
        if !(is_cpu_f32(x) && is_cpu_f32(y)) {
            return self.add_copies_portable(y, x, repeats, skipped);
        }
        let (x, y) = (x.contiguous()?, y.contiguous()?);
        let (source, base) = (f32s(&x)?, f32s(&y)?);
        let columns = width * side;
        let plane_len = height * side * columns;
        let mut out = vec![0f32; base.len()];
        out.par_chunks_mut(plane_len.max(1))
            .zip(base.par_chunks(plane_len.max(1)))
            .enumerate()
            .for_each(|(plane, (out, base))| {
                let (result, output) = (plane / self.outputs + skipped, plane % self.outputs);
                let (frame, dt) = (result / time, result % time);
                for (row, (out, base)) in out
                    .chunks_exact_mut(columns)
                    .zip(base.chunks_exact(columns))
                    .enumerate()
                {
                    for dx in 0..side {
                        let cube = (dt * side + row % side) * side + dx;
                        let channel = (output * self.factor() + cube) / repeats;
                        let line = (frame * inputs + channel) * height + row / side;
                        let line = &source[line * width..][..width];
                        let pixels = out.iter_mut().zip(base).skip(dx).step_by(side);
                        for ((out, base), value) in pixels.zip(line) {
                            *out = base + value;
                        }
                    }
                }
            });
        Ok(Tensor::from_vec(out, shape, x.device())?)
    }

    fn add_copies_portable(
        self,
        y: &Tensor,
        x: &Tensor,
        repeats: usize,
        skipped: usize,
    ) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let (time, side) = (self.time, self.side);
        let channels: Vec<u32> = (0..inputs * repeats)
            .map(|i| (i / repeats) as u32)
            .collect();
        let copies = x
            .index_select(&Tensor::new(channels, x.device())?, 1)?
            .reshape(&[frames, self.outputs, time, side, side, height, width])?
            .permute([0, 2, 1, 5, 3, 6, 4])?
            .contiguous()?
            .reshape((frames * time, self.outputs, height * side, width * side))?;
        let kept = copies.dim(0)? - skipped;
        Ok((y + copies.narrow(0, skipped, kept)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn kernels_equal_candle() {
        for (inputs, outputs, time, side) in [
            (8, 8, 2, 2),
            (4, 8, 1, 2),
            (8, 16, 2, 2),
            (6, 6, 1, 1),
            (8, 4, 2, 2),
        ] {
            let shortcut = Shortcut {
                outputs,
                time,
                side,
            };
            for frames in [1, 4] {
                let x = wave(&[frames, inputs, 4, 6]);
                let missing = (time - frames % time) % time;
                let results = (frames + missing) / time;
                let y = wave(&[results, outputs, 4 / side, 6 / side]);
                let ours = shortcut.add_average(&y, &x).unwrap();
                let theirs = shortcut.add_average_portable(&y, &x, missing).unwrap();
                assert_close(&ours, &theirs, 1e-6);
                for is_first in [false, true] {
                    let skipped = if is_first { time - 1 } else { 0 };
                    let shape = [frames * time - skipped, outputs, 4 * side, 6 * side];
                    let y = wave(&shape);
                    let repeats = outputs * time * side * side / inputs;
                    let ours = shortcut.add_copies(&y, &x, is_first).unwrap();
                    let theirs = shortcut
                        .add_copies_portable(&y, &x, repeats, skipped)
                        .unwrap();
                    assert_close(&ours, &theirs, 0.0);
                }
            }
        }
    }
}
