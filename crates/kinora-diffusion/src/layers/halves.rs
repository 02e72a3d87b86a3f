//! Products in candle operations in every number format on every device: candle's processor has none
//! in bf16, so those are taken in f32 and rounded once.

use candle_core::{DType, Tensor};

use crate::Result;

/// Whether candle's product lacks this format here.
fn lacks_product(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::BF16
}

/// `left · right`
pub(crate) fn matmul(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if !lacks_product(left) {
        return Ok(left.matmul(right)?);
    }
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    Ok(wide(left)?.matmul(&wide(right)?)?.to_dtype(left.dtype())?)
}

/// A convolution without padding of its own; `weight` is brought to x's format.
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, step: usize) -> Result<Tensor> {
    if !lacks_product(x) {
        return Ok(x.conv2d(&weight.to_dtype(x.dtype())?, 0, step, 1, 1)?);
    }
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    let y = wide(x)?.conv2d(&wide(weight)?, 0, step, 1, 1)?;
    Ok(y.to_dtype(x.dtype())?)
}
