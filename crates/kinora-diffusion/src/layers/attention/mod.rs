//! Scaled dot-product attention, in as many ways as there are devices to suit: each way is a
//! [`Backend`], and the first that takes a call computes it. All of them give the same numbers up to
//! rounding, and none holds all scores of a long clip at once.

mod flash;
mod portable;
mod tiled;

use candle_core::Tensor;

use self::{flash::Flash, portable::Portable, tiled::Tiled};
use crate::{Result, error::bail_shape};

/// How scores are scaled and which keys a query sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention<'a> {
    /// Factor of the scores; None: 1/√(head size).
    pub scale: Option<f32>,
    /// Added to the scores: (1 or batch, 1 or heads, 1 or queries, keys), f32. Holds position
    /// biases, and masks as −∞ or very negative values.
    pub bias: Option<&'a Tensor>,
    /// Whether query i sees only keys up to i.
    pub is_causal: bool,
}

/// Attention over tensors whose shapes fit together.
#[derive(Clone, Copy)]
struct Call<'a> {
    /// (batch, queries, heads, size)
    q: &'a Tensor,
    /// (batch, keys, heads, size)
    k: &'a Tensor,
    /// (batch, keys, heads, value size)
    v: &'a Tensor,
    /// Factor of the scores.
    scale: f32,
    /// As in [`Attention`].
    bias: Option<&'a Tensor>,
    /// As in [`Attention`].
    is_causal: bool,
}

/// A way to compute attention.
trait Backend: Sync {
    /// Whether it computes this call.
    fn takes(&self, call: &Call) -> bool;

    /// → (batch, queries, heads, value size)
    fn attend(&self, call: &Call) -> Result<Tensor>;
}

/// Fastest first. The last one takes everything.
const BACKENDS: [&dyn Backend; 3] = [&Flash, &Tiled, &Portable::USUAL];

/// Attention of `q` over `k` and `v`.
///
/// q: (batch, queries, heads, size); k: (batch, keys, heads, size); v: (batch, keys, heads, value
/// size); any strides as long as the last dimension is dense → (batch, queries, heads, value size).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: Attention) -> Result<Tensor> {
    check_shapes(q, k, v, options.bias)?;
    let call = Call {
        q,
        k,
        v,
        scale: options
            .scale
            .unwrap_or_else(|| (q.dims()[3] as f32).sqrt().recip()),
        bias: options.bias,
        is_causal: options.is_causal,
    };
    match BACKENDS.iter().find(|backend| backend.takes(&call)) {
        Some(backend) => backend.attend(&call),
        None => bail_shape!("attention of {:?} over {:?}", q.dims(), k.dims()),
    }
}

fn check_shapes(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (batch, queries, heads, size) = q.dims4()?;
    let (_, keys, _, value_size) = v.dims4()?;
    let fits = k.dims() == [batch, keys, heads, size]
        && v.dims() == [batch, keys, heads, value_size]
        && bias.is_none_or(|bias| {
            let wanted = [batch, heads, queries, keys];
            bias.rank() == 4
                && bias.dim(3).ok() == Some(keys)
                && bias
                    .dims()
                    .iter()
                    .zip(wanted)
                    .all(|(&have, want)| have == 1 || have == want)
        });
    if !fits {
        bail_shape!(
            "attention of {:?} over {:?} and {:?} with a bias of {:?}",
            q.dims(),
            k.dims(),
            v.dims(),
            bias.map(Tensor::dims)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::layers::testing::{assert_close, wave};

    fn compare(q: &Tensor, k: &Tensor, v: &Tensor, options: Attention) {
        let ours = attention(q, k, v, options).unwrap();
        let scale = options.scale.unwrap_or((q.dims()[3] as f32).powf(-0.5));
        let call = Call {
            q,
            k,
            v,
            scale,
            bias: options.bias,
            is_causal: options.is_causal,
        };
        assert!(Tiled.takes(&call));
        let theirs = Portable { most_scores: 3000 }.attend(&call).unwrap();
        assert_close(&ours, &theirs, 2e-5);
    }

    #[test]
    fn tiles_equal_one_softmax_over_everything() {
        // 1100 keys need three blocks; the sharp scale makes maxima move between blocks.
        for (batch, queries, keys, heads, size) in [(2, 7, 5, 3, 4), (1, 230, 1100, 2, 16)] {
            let q = wave(&[batch, queries, heads, size]);
            let k = wave(&[batch, keys, heads, size]).affine(1.0, 0.2).unwrap();
            let v = wave(&[batch, keys, heads, size]).affine(-1.0, 0.7).unwrap();
            for scale in [None, Some(2.0)] {
                compare(
                    &q,
                    &k,
                    &v,
                    Attention {
                        scale,
                        ..Default::default()
                    },
                );
            }
            let per_head = wave(&[1, heads, queries, keys]);
            compare(
                &q,
                &k,
                &v,
                Attention {
                    bias: Some(&per_head),
                    ..Default::default()
                },
            );
            let per_batch = wave(&[batch, 1, 1, keys]).affine(4.0, 0.0).unwrap();
            compare(
                &q,
                &k,
                &v,
                Attention {
                    bias: Some(&per_batch),
                    ..Default::default()
                },
            );
        }
    }

    #[test]
    fn causal_queries_see_their_past_only() {
        for tokens in [5, 77, 700] {
            let x = wave(&[2, tokens, 2, 8]);
            compare(
                &x,
                &x,
                &x,
                Attention {
                    is_causal: true,
                    ..Default::default()
                },
            );
        }
    }

    #[test]
    fn columns_of_wider_rows_are_read_in_place() {
        let wide = wave(&[2, 50, 9, 16]);
        let (q, k, v) = (
            wide.narrow(2, 0, 3).unwrap(),
            wide.narrow(2, 3, 3).unwrap(),
            wide.narrow(2, 6, 3).unwrap(),
        );
        compare(&q, &k, &v, Attention::default());
    }

    #[test]
    fn masked_keys_count_nothing_and_a_blind_query_gets_zeros() {
        let x = wave(&[1, 4, 1, 8]);
        let minus = f32::NEG_INFINITY;
        #[rustfmt::skip]
        let mask = Tensor::new(&[
            [0.0, minus, minus, minus], [minus, minus, 0.0, minus],
            [0.0, 0.0, 0.0, 0.0], [minus, minus, minus, minus],
        ], x.device()).unwrap().reshape((1, 1, 4, 4)).unwrap();
        let y = attention(
            &x,
            &x,
            &x,
            Attention {
                bias: Some(&mask),
                ..Default::default()
            },
        )
        .unwrap();
        let row = |t: &Tensor, i| t.narrow(1, i, 1).unwrap();
        assert_close(&row(&y, 0), &row(&x, 0), 1e-6);
        assert_close(&row(&y, 1), &row(&x, 2), 1e-6);
        assert_close(&row(&y, 3), &(row(&x, 0) * 0.0).unwrap(), 0.0);
    }

    #[test]
    fn what_the_processor_has_no_kernel_for_goes_the_portable_way() {
        let x = wave(&[1, 9, 2, 8]);
        let half = x.to_dtype(DType::F16).unwrap();
        let ours = attention(&half, &half, &half, Attention::default()).unwrap();
        assert_eq!(ours.dtype(), DType::F16);
        let theirs = attention(&x, &x, &x, Attention::default()).unwrap();
        assert_close(&ours.to_dtype(DType::F32).unwrap(), &theirs, 1e-2);
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() {
        let (x, y) = (wave(&[1, 4, 2, 8]), wave(&[1, 4, 2, 6]));
        assert!(attention(&x, &y, &x, Attention::default()).is_err());
        let bias = wave(&[1, 1, 4, 3]);
        assert!(
            attention(
                &x,
                &x,
                &x,
                Attention {
                    bias: Some(&bias),
                    ..Default::default()
                }
            )
            .is_err()
        );
    }
}
