//! Pixels of a cube (frames, rows, columns) as channels of one, and the way back. Only the order of
//! the numbers changes.

use candle_core::Tensor;

use super::cpu::{f32s, for_rows, is_cpu_f32, tensor};
use crate::{Result, error::bail_shape};

/// (frames, channels · t · h · w, height, width) → (frames · t, channels, height · h, width · w):
/// the channels of a cube stand for its frames, then its rows, then its columns.
pub fn depth_to_space(x: &Tensor, [t, h, w]: [usize; 3]) -> Result<Tensor> {
    let (frames, inputs, height, width) = x.dims4()?;
    let cube = t * h * w;
    if cube == 0 || !inputs.is_multiple_of(cube) {
        bail_shape!("{inputs} channels as cubes of {t}×{h}×{w}");
    }
    let channels = inputs / cube;
    let shape = (frames * t, channels, height * h, width * w);
    if !is_cpu_f32(x) {
        return Ok(x
            .reshape(&[frames, channels, t, h, w, height, width])?
            .permute([0, 2, 1, 5, 3, 6, 4])?
            .contiguous()?
            .reshape(shape)?);
    }
    let x = x.contiguous()?;
    let source = f32s(&x)?;
    let columns = width * w;
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, columns, 2, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(columns).enumerate() {
            let row = first + row;
            let (plane, y) = (row / (height * h), row % (height * h));
            let (frame, channel) = (plane / channels, plane % channels);
            let first = channel * cube + (frame % t * h + y % h) * w;
            for dx in 0..w {
                let line = (frame / t * inputs + first + dx) * height + y / h;
                let line = &source[line * width..][..width];
                for (out, value) in out.iter_mut().skip(dx).step_by(w).zip(line) {
                    *out = *value;
                }
            }
        }
    });
    tensor(out, shape)
}

/// The way back: (frames · t, channels, height · h, width · w) →
/// (frames, channels · t · h · w, height, width).
pub fn space_to_depth(x: &Tensor, [t, h, w]: [usize; 3]) -> Result<Tensor> {
    let (frames, channels, height, width) = x.dims4()?;
    if t * h * w == 0
        || !frames.is_multiple_of(t)
        || !height.is_multiple_of(h)
        || !width.is_multiple_of(w)
    {
        bail_shape!("{:?} in cubes of {t}×{h}×{w}", x.dims());
    }
    let (frames, height, width) = (frames / t, height / h, width / w);
    let outputs = channels * t * h * w;
    let shape = (frames, outputs, height, width);
    if !is_cpu_f32(x) {
        return Ok(x
            .reshape(&[frames, t, channels, height, h, width, w])?
            .permute([0, 2, 1, 4, 6, 3, 5])?
            .contiguous()?
            .reshape(shape)?);
    }
    let x = x.contiguous()?;
    let source = f32s(&x)?;
    let mut out = vec![0f32; source.len()];
    for_rows(&mut out, width, 2, |first, rows| {
        for (row, out) in rows.chunks_exact_mut(width).enumerate() {
            let row = first + row;
            let (plane, y) = (row / height, row % height);
            let (frame, output) = (plane / outputs, plane % outputs);
            let (channel, cube) = (output / (t * h * w), output % (t * h * w));
            let (dt, dy, dx) = (cube / (h * w), cube / w % h, cube % w);
            let line = ((frame * t + dt) * channels + channel) * height * h + y * h + dy;
            let line = &source[line * width * w..][..width * w];
            for (out, value) in out.iter_mut().zip(line.iter().skip(dx).step_by(w)) {
                *out = *value;
            }
        }
    });
    tensor(out, shape)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn kernels_equal_candle_and_undo_each_other() {
        for cube in [[2, 2, 2], [1, 2, 2], [2, 1, 1], [1, 4, 4], [1, 1, 1]] {
            let [t, h, w] = cube;
            let x = wave(&[3, 5 * t * h * w, 4, 7]);
            // Numbers of 64 bits go the way of candle.
            let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
            let narrow = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
            let y = depth_to_space(&x, cube).unwrap();
            assert_eq!(y.dims(), [3 * t, 5, 4 * h, 7 * w]);
            let theirs = depth_to_space(&wide(&x), cube).unwrap();
            assert_close(&y, &narrow(&theirs), 0.0);
            assert_close(&space_to_depth(&y, cube).unwrap(), &x, 0.0);
            let theirs = space_to_depth(&wide(&y), cube).unwrap();
            assert_close(&narrow(&theirs), &x, 0.0);
        }
        assert!(depth_to_space(&wave(&[1, 6, 2, 2]), [2, 2, 2]).is_err());
        assert!(space_to_depth(&wave(&[1, 6, 3, 2]), [1, 2, 2]).is_err());
    }
}
