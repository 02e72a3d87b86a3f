//! Blocks of 32 numbers with one scale.

use super::{decode_e8m0, half_at};

/// Levels of the non-linear 4-bit formats.
pub(super) const NON_LINEAR: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of a 4-bit float E2M1.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The first half of a block lies in the low nibbles, the second in the high ones.
fn nibbles(packed: &[u8], numbers: &mut [f32; 32], decode: impl Fn(usize, u8) -> f32) {
    for (index, byte) in packed.iter().enumerate() {
        numbers[index] = decode(index, byte & 15);
        numbers[index + 16] = decode(index + 16, byte >> 4);
    }
}

pub(super) fn decode_q4_0(block: &[u8; 18], numbers: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], numbers, |_, level| {
        scale * f32::from(level as i8 - 8)
    });
}

pub(super) fn decode_q4_1(block: &[u8; 20], numbers: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], numbers, |_, level| {
        scale * f32::from(level) + least
    });
}

/// The fifth bits of a block, one number's after another's.
fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn with_fifth(bits: u32, index: usize, level: u8) -> u8 {
    level | ((bits >> index & 1) << 4) as u8
}

pub(super) fn decode_q5_0(block: &[u8; 22], numbers: &mut [f32; 32]) {
    let (scale, bits) = (half_at(block, 0), fifth_bits(block, 2));
    nibbles(&block[6..], numbers, |index, level| {
        scale * f32::from(with_fifth(bits, index, level) as i8 - 16)
    });
}

pub(super) fn decode_q5_1(block: &[u8; 24], numbers: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let bits = fifth_bits(block, 4);
    nibbles(&block[8..], numbers, |index, level| {
        scale * f32::from(with_fifth(bits, index, level)) + least
    });
}

pub(super) fn decode_q8_0(block: &[u8; 34], numbers: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (number, level) in numbers.iter_mut().zip(&block[2..]) {
        *number = scale * f32::from(*level as i8);
    }
}

pub(super) fn decode_iq4_nl(block: &[u8; 18], numbers: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], numbers, |_, level| {
        scale * f32::from(NON_LINEAR[usize::from(level)])
    });
}

/// Two numbers without a scale, the first in the upper half of the byte.
pub(super) fn decode_e2m1(byte: &[u8; 1], numbers: &mut [f32; 2]) {
    let level = |nibble: u8| f32::from(E2M1[usize::from(nibble)]) * 0.5;
    *numbers = [level(byte[0] >> 4), level(byte[0] & 15)];
}

pub(super) fn decode_mxfp4(block: &[u8; 17], numbers: &mut [f32; 32]) {
    // The table holds twice the values.
    let scale = decode_e8m0(block[0]) * 0.5;
    nibbles(&block[1..], numbers, |_, level| {
        scale * f32::from(E2M1[usize::from(level)])
    });
}
