//! Classifier-free guidance: away from what the network says without the prompt.

use candle_core::{DType, Tensor};

use crate::{Result, error::bail_shape};

/// How one row is guided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Guidance {
    /// Above 1.
    pub scale: f32,
    /// Share of the result that gets the contrast of the prediction with the prompt.
    pub rescale: f32,
}

/// `without + scale · (with − without)` for each row, and the contrast partly put back: J. Ho and
/// T. Salimans, "Classifier-free diffusion guidance"; S. Lin et al., "Common diffusion noise
/// schedules and sample steps are flawed", 3.4. Both (rows, …), any float format; the result is f32.
pub(super) fn guide(with: &Tensor, without: &Tensor, rows: &[Guidance]) -> Result<Tensor> {
    let shape = with.shape().clone();
    let count = rows.len();
    if with.dim(0)? != count || without.shape() != &shape {
        bail_shape!(
            "{count} rows of guidance for {shape:?} and {:?}",
            without.shape()
        );
    }
    let numbers = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    };
    let (with_all, mut guided) = (numbers(with)?, numbers(without)?);
    let len = (guided.len() / count.max(1)).max(1);
    for ((guided, with), row) in guided
        .chunks_exact_mut(len)
        .zip(with_all.chunks_exact(len))
        .zip(rows)
    {
        for (value, with) in guided.iter_mut().zip(with) {
            *value += row.scale * (with - *value);
        }
        if row.rescale > 0.0 {
            let factor = (deviation(with) / deviation(guided)) as f32;
            for value in guided {
                *value = row.rescale * (*value * factor) + (1.0 - row.rescale) * *value;
            }
        }
    }
    Ok(Tensor::from_vec(guided, shape, with.device())?)
}

/// The same for rows that are all guided alike.
pub(crate) fn guide_evenly(
    with: &Tensor,
    without: &Tensor,
    scale: f32,
    rescale: f32,
) -> Result<Tensor> {
    let rows = vec![Guidance { scale, rescale }; with.dim(0)?];
    guide(with, without, &rows)
}

/// Of a sample: divided by one less than its size.
fn deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|value| (f64::from(*value) - mean).powi(2));
    (squares.sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn each_row_is_guided_by_its_own_scale() {
        let with = wave(&[2, 3, 4]);
        let without = wave(&[2, 3, 4]).affine(0.5, 0.2).unwrap();
        let rows = [(4.0, 0.0), (2.0, 1.0)].map(|(scale, rescale)| Guidance { scale, rescale });
        let guided = guide(&with, &without, &rows).unwrap();
        let row = |tensor: &Tensor, i| tensor.narrow(0, i, 1).unwrap();
        let plain = (&without + ((&with - &without).unwrap() * 4.0).unwrap()).unwrap();
        assert_close(&row(&guided, 0), &row(&plain, 0), 1e-6);
        let values = |tensor: &Tensor| row(tensor, 1).flatten_all().unwrap().to_vec1().unwrap();
        assert!((deviation(&values(&guided)) - deviation(&values(&with))).abs() < 1e-6);
        assert!(guide(&with, &without, &rows[..1]).is_err());
    }
}
