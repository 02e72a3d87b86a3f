//! Numbers as sines and cosines of many frequencies: how networks are told times, sizes and the like.

use candle_core::{Device, Tensor};

use crate::Result;

/// Base of the frequencies.
const BASE: f64 = 10_000.0;

/// `[cos(t·fᵢ) | sin(t·fᵢ)]` with `fᵢ = 10000^(−i / (size/2))`: (numbers, size), f32.
///
/// `get_timestep_embedding` of the reference library with `flip_sin_to_cos` and a frequency shift of
/// 0. The frequencies are rounded to f32 where the reference rounds them: at t = 1000 the rounding
/// shows in the fifth digit. An odd size ends with a zero.
pub fn sinusoid(numbers: &[f32], size: usize, device: &Device) -> Result<Tensor> {
    let half = size / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = -(BASE.ln() as f32) * i as f32 / half as f32;
            f64::from(exponent).exp() as f32
        })
        .collect();
    let mut values = Vec::with_capacity(numbers.len() * size);
    for &number in numbers {
        values.extend(frequencies.iter().map(|f| (number * f).cos()));
        values.extend(frequencies.iter().map(|f| (number * f).sin()));
        values.resize(values.len().next_multiple_of(size.max(1)), 0.0);
    }
    Ok(Tensor::from_vec(values, (numbers.len(), size), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first_and_slow_down() {
        let table = sinusoid(&[0.0, 3.0], 8, &Device::Cpu).unwrap();
        let rows = table.to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        for (i, frequency) in [1.0f32, 0.1, 0.01, 0.001].into_iter().enumerate() {
            assert!((rows[1][i] - (3.0 * frequency).cos()).abs() < 1e-6);
            assert!((rows[1][4 + i] - (3.0 * frequency).sin()).abs() < 1e-6);
        }
        assert_eq!(sinusoid(&[1.0], 5, &Device::Cpu).unwrap().dims(), [1, 5]);
    }
}
