//! Elementary functions written so that the compiler can vectorise them, and sums with a fixed
//! order. Relative error about 1e-7; NaN goes through.

/// Lanes of the partial sums: as wide as the widest vector in use (AVX-512), four of them, so that
/// the order of the additions does not depend on the instruction set.
const LANES: usize = 32;

/// eˣ: range reduction by powers of two, then a polynomial of degree 6 (Cephes' `expf`).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to the nearest whole number and leaves it in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = shifted
        .to_bits()
        .wrapping_sub(MAGIC.to_bits())
        .wrapping_add(127)
        << 23;
    p * f32::from_bits(power)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x · sigmoid(x).
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³))), with ½(1 + tanh u) = sigmoid(2u).
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    x * sigmoid(TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))
}

/// ½x(1 + erf(x/√2)), erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let a = z.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let poly = t
        * (0.254_829_6
            + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
    let erf = (1.0 - poly * exp(-a * a)).copysign(z);
    0.5 * x * (1.0 + erf)
}

/// x · sigmoid(1.702x).
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

/// Σ f(x).
#[inline(always)]
pub(crate) fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let mut rest = 0f32;
    for &value in chunks.remainder() {
        rest += f(value);
    }
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest value; NaN when any is NaN is not promised.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let mut best = f32::NEG_INFINITY;
    for &value in chunks.remainder() {
        best = if value > best { value } else { best };
    }
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for lane in lanes {
        best = if lane > best { lane } else { best };
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-4000..=4000).map(|i| i as f32 * 0.005)
    }

    #[test]
    fn elementary_functions_are_exact_to_rounding() {
        for x in grid() {
            let d = f64::from(x);
            let close = |ours: f32, exact: f64, what: &str| {
                let error = (f64::from(ours) - exact).abs();
                assert!(error <= 3e-7 * exact.abs().max(1.0), "{what}({x}): {error}");
            };
            assert!((f64::from(exp(x)) / d.exp() - 1.0).abs() < 4e-7, "exp({x})");
            close(sigmoid(x), 1.0 / (1.0 + (-d).exp()), "sigmoid");
            close(silu(x), d / (1.0 + (-d).exp()), "silu");
            close(quick_gelu(x), d / (1.0 + (-1.702 * d).exp()), "quick_gelu");
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044_715 * d * d * d);
            close(gelu_tanh(x), 0.5 * d * (1.0 + u.tanh()), "gelu_tanh");
        }
        // From tables of the error function.
        for (z, erf) in [
            (0.0, 0.0),
            (0.5, 0.520_499_878),
            (1.0, 0.842_700_793),
            (2.0, 0.995_322_265),
        ] {
            let x = z * std::f64::consts::SQRT_2;
            assert!(
                (f64::from(gelu_erf(x as f32)) - 0.5 * x * (1.0 + erf)).abs() < 5e-7,
                "gelu_erf({x})"
            );
            assert!(
                (f64::from(gelu_erf(-x as f32)) + 0.5 * x * (1.0 - erf)).abs() < 5e-7,
                "gelu_erf(-{x})"
            );
        }
    }

    #[test]
    fn nan_goes_through_and_extremes_stay_finite() {
        for f in [exp, sigmoid, silu, gelu_tanh, gelu_erf, quick_gelu] {
            assert!(f(f32::NAN).is_nan());
            assert!(f(-1e30).is_finite());
        }
        assert_eq!(exp(-1e30), exp(-87.0));
    }

    #[test]
    fn sums_and_maxima_cover_the_rest() {
        let values: Vec<f32> = (0..77).map(|i| ((i * 37) % 77) as f32).collect();
        assert_eq!(sum_by(&values, |v| v), 77.0 * 76.0 / 2.0);
        assert_eq!(max(&values), 76.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }
}
