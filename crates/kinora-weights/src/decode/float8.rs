//! The 8-bit floats of the OCP specification: E4M3 (no infinities), E5M2, and E8M0 scales.

use half::f16;

/// 4 bits of exponent (bias 7), 3 of mantissa; no infinities, 0x7f and 0xff are NaN, largest 448.
pub fn decode_e4m3(byte: u8) -> f32 {
    let sign = u32::from(byte & 0x80) << 24;
    let (exponent, mantissa) = (u32::from(byte >> 3 & 15), u32::from(byte & 7));
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        // Subnormal: eighths of the smallest power, 2⁻⁶.
        (0, mantissa) => mantissa as f32 / 512.0,
        (exponent, mantissa) => f32::from_bits((exponent + 127 - 7) << 23 | mantissa << 20),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// 5 bits of exponent, 2 of mantissa: the upper half of an f16.
pub fn decode_e5m2(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

/// A power of two from 2⁻¹²⁷ to 2¹²⁷; 0xff is NaN.
pub fn decode_e8m0(byte: u8) -> f32 {
    match byte {
        0xff => f32::NAN,
        // 2⁻¹²⁷ is a subnormal f32.
        0 => f32::from_bits(1 << 22),
        byte => f32::from_bits(u32::from(byte) << 23),
    }
}
