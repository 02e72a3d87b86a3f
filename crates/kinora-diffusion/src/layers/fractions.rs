//! Rotary positions as LTX takes them: each axis as a share of a length, −1 to 1, times frequencies
//! that grow to a power of ten; the angles go over all heads of a row.
//!
//! After `LTXVideoRotaryPosEmbed`, `LTX2AudioVideoRotaryPosEmbed` and `LTX2RotaryPosEmbed1d` of the
//! reference library, whose roundings to f32 count: the highest frequency is 15 708.

use std::f64::consts::PI;

use candle_core::Device;

use super::rope::{Pairs, Rope};
use crate::{Result, error::bail_shape};

/// Base of the frequencies.
const THETA: f64 = 10_000.0;

/// How the frequencies are worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// In f32, step by step.
    Single,
    /// In f64, rounded once.
    Double,
}

/// The rotations of tokens whose places on each axis are given as shares of that axis' length.
///
/// `width`: numbers of a row; those that the axes leave over stand in front and are not turned.
pub fn rope_of_shares<const AXES: usize>(
    shares: &[[f32; AXES]],
    width: usize,
    precision: Precision,
    pairs: Pairs,
    device: &Device,
) -> Result<Rope> {
    let count = width / (2 * AXES);
    if count == 0 || !width.is_multiple_of(2) {
        bail_shape!("positions on {AXES} axes in rows of {width}");
    }
    let frequencies = frequencies(count, precision);
    let still = width / 2 - AXES * count;
    let mut angles = Vec::with_capacity(shares.len() * width / 2);
    for token in shares {
        angles.extend(std::iter::repeat_n(0f32, still));
        for frequency in &frequencies {
            angles.extend(token.iter().map(|share| frequency * (share * 2.0 - 1.0)));
        }
    }
    Rope::from_angles(&angles, shares.len(), pairs, device)
}

/// From π/2 to θ·π/2, evenly in their logarithm.
fn frequencies(count: usize, precision: Precision) -> Vec<f32> {
    match precision {
        Precision::Double => {
            let step = 1.0 / (count.max(2) - 1) as f64;
            let place = |i: usize| match i < count / 2 {
                true => step * i as f64,
                // From the far end, as the reference counts.
                false => 1.0 - step * (count - 1 - i) as f64,
            };
            (0..count)
                .map(|i| if count == 1 { 0.0 } else { place(i) })
                .map(|place| (THETA.powf(place) * PI / 2.0) as f32)
                .collect()
        }
        Precision::Single => {
            let step = 1.0 / (count.max(2) - 1) as f32;
            let place = |i: usize| match i < count / 2 {
                true => step * i as f32,
                false => 1.0 - step * (count - 1 - i) as f32,
            };
            (0..count)
                .map(|i| if count == 1 { 0.0 } else { place(i) })
                .map(|place| THETA.powf(f64::from(place)) as f32 * PI as f32 / 2.0)
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_PI_2;

    use super::*;

    #[test]
    fn frequencies_begin_and_end_where_the_references_do() {
        for precision in [Precision::Single, Precision::Double] {
            for count in [2, 5, 341] {
                let all = frequencies(count, precision);
                assert_eq!(all[0], FRAC_PI_2 as f32);
                let last = (THETA * FRAC_PI_2) as f32;
                assert!((all[count - 1] - last).abs() <= 2.0 * f32::EPSILON * last);
                assert!(all.is_sorted());
            }
            assert_eq!(frequencies(1, precision), [FRAC_PI_2 as f32]);
        }
    }

    #[test]
    fn what_the_axes_leave_over_is_not_turned() {
        let tokens = [[0.0, 0.25, 0.5], [1.0, 0.75, 0.5]];
        let device = Device::Cpu;
        let table =
            |width| rope_of_shares(&tokens, width, Precision::Single, Pairs::Halves, &device);
        // 32 = 3 · 2 · 5 + 2
        assert_eq!(table(32).unwrap().tokens(), 2);
        assert!(table(4).is_err() && table(33).is_err());
    }
}
