//! Classifier-free guidance of whole tensors, on the device where they are: J. Ho and T. Salimans,
//! "Classifier-free diffusion guidance".

use candle_core::{D, DType, Tensor};

use crate::Result;

/// `without + scale · (with − without)`, f32.
pub(crate) fn guide(with: &Tensor, without: &Tensor, scale: f32) -> Result<Tensor> {
    let (with, without) = (with.to_dtype(DType::F32)?, without.to_dtype(DType::F32)?);
    Ok((&without + ((with - &without)? * f64::from(scale))?)?)
}

/// `guided` with a share of the contrast of `with` put back, row by row: S. Lin et al., "Common
/// diffusion noise schedules and sample steps are flawed", 3.4. (rows, …), f32.
pub(crate) fn rescale(guided: &Tensor, with: &Tensor, share: f32) -> Result<Tensor> {
    if share == 0.0 {
        return Ok(guided.clone());
    }
    let factor = (deviation(with)? / deviation(guided)?)?;
    let mut shape = vec![1; guided.rank()];
    shape[0] = guided.dim(0)?;
    let factor = ((factor * f64::from(share))? + f64::from(1.0 - share))?;
    Ok(guided.broadcast_mul(&factor.reshape(shape)?)?)
}

/// Of each row, (rows). Sums are taken over the last dimension first, so that they stay short.
fn deviation(x: &Tensor) -> Result<Tensor> {
    let (rows, last) = (x.dim(0)?, x.dim(D::Minus1)?);
    let x = x.reshape((rows, (), last))?;
    let mean = x.mean(2)?.mean_keepdim(1)?.unsqueeze(2)?;
    let squares = x.broadcast_sub(&mean)?.sqr()?;
    Ok(squares.mean(2)?.mean(1)?.sqrt()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn a_scale_of_one_changes_nothing_and_a_full_rescale_keeps_the_contrast() {
        let with = wave(&[2, 30, 8]);
        let without = with.affine(0.4, 0.3).unwrap();
        assert_close(&guide(&with, &without, 1.0).unwrap(), &with, 1e-6);
        let guided = guide(&with, &without, 4.0).unwrap();
        assert_close(&rescale(&guided, &with, 0.0).unwrap(), &guided, 0.0);
        let put_back = rescale(&guided, &with, 1.0).unwrap();
        let (ours, wanted) = (deviation(&put_back).unwrap(), deviation(&with).unwrap());
        assert_close(&ours, &wanted, 1e-5);
        let half = rescale(&guided, &with, 0.5).unwrap();
        assert_close(&half, &((guided + put_back).unwrap() * 0.5).unwrap(), 1e-5);
    }
}
