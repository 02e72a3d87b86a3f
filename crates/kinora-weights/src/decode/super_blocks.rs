//! Blocks of 256 numbers in groups, each group with a scale that is itself stored in few bits.

use super::{blocks::NON_LINEAR, half_at};

/// Sixteen groups of 16; 4-bit scales and minima.
pub(super) fn decode_q2(block: &[u8; 84], numbers: &mut [f32; 256]) {
    let (scales, packed) = (&block[..16], &block[16..80]);
    let (scale, least) = (half_at(block, 80), half_at(block, 82));
    for (group, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, least) = (
            scale * f32::from(scales[group] & 15),
            least * f32::from(scales[group] >> 4),
        );
        let (half, shift, part) = (group / 8, group % 8 / 2 * 2, group % 2);
        let packed = &packed[half * 32 + part * 16..][..16];
        for (number, byte) in numbers.iter_mut().zip(packed) {
            *number = scale * f32::from(byte >> shift & 3) - least;
        }
    }
}

/// Sixteen groups of 16; 6-bit scales without minima; the third bits lie apart.
pub(super) fn decode_q3(block: &[u8; 110], numbers: &mut [f32; 256]) {
    let (high, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half_at(block, 108);
    for (group, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // Low nibbles of the first eight bytes, then their high nibbles; the two upper bits of all
        // in the last four bytes.
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let upper = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = scale * f32::from((low | upper << 4) as i8 - 32);
        let (half, shift, part) = (group / 8, group % 8 / 2 * 2, group % 2);
        let packed = &packed[half * 32 + part * 16..][..16];
        let high = &high[part * 16..][..16];
        for ((number, byte), high) in numbers.iter_mut().zip(packed).zip(high) {
            let lowered = if high >> (group / 2) & 1 == 1 { 0 } else { 4 };
            *number = scale * f32::from((byte >> shift & 3) as i8 - lowered);
        }
    }
}

/// Scale and minimum, 6 bits each, of one of eight groups.
fn scale_and_least(scales: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        (
            scales[group + 4] & 15 | scales[group - 4] >> 6 << 4,
            scales[group + 4] >> 4 | scales[group] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

/// Eight groups of 32, two in the nibbles of the same 32 bytes.
pub(super) fn decode_q4(block: &[u8; 144], numbers: &mut [f32; 256]) {
    decode_q45(block, &[0; 32], &block[16..], numbers);
}

/// As the 4-bit format, with the fifth bits apart.
pub(super) fn decode_q5(block: &[u8; 176], numbers: &mut [f32; 256]) {
    decode_q45(block, &block[16..48], &block[48..], numbers);
}

fn decode_q45(block: &[u8], high: &[u8], packed: &[u8], numbers: &mut [f32; 256]) {
    let (scale, least, scales) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (group, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (own_scale, own_least) = scale_and_least(scales, group);
        let (scale, least) = (scale * own_scale, least * own_least);
        let packed = &packed[group / 2 * 32..][..32];
        for ((number, byte), high) in numbers.iter_mut().zip(packed).zip(high) {
            let level = byte >> (group % 2 * 4) & 15 | (high >> group & 1) << 4;
            *number = scale * f32::from(level) - least;
        }
    }
}

/// Sixteen groups of 16; 8-bit scales; the two upper bits lie apart.
pub(super) fn decode_q6(block: &[u8; 210], numbers: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for (index, number) in numbers.iter_mut().enumerate() {
        let (half, quarter, column) = (index / 128, index % 128 / 32, index % 32);
        let low = low[half * 64 + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15;
        let high = high[half * 32 + column] >> (quarter * 2) & 3;
        let scale = scale * f32::from(scales[index / 16] as i8);
        *number = scale * f32::from((low | high << 4) as i8 - 32);
    }
}

/// One scale in f32; sums of groups follow, which are of use in products only.
pub(super) fn decode_q8(block: &[u8; 292], numbers: &mut [f32; 256]) {
    let scale = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (number, level) in numbers.iter_mut().zip(&block[4..260]) {
        *number = scale * f32::from(*level as i8);
    }
}

/// Eight groups of 32 of the non-linear 4-bit format; 6-bit scales.
pub(super) fn decode_iq4_xs(block: &[u8; 136], numbers: &mut [f32; 256]) {
    let scale = half_at(block, 0);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    let (lower, packed) = (&block[4..8], &block[8..]);
    for (group, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = lower[group / 2] >> (group % 2 * 4) & 15;
        let level = low | ((upper >> (2 * group) & 3) << 4) as u8;
        let scale = scale * f32::from(level as i8 - 32);
        for (index, byte) in packed[group * 16..][..16].iter().enumerate() {
            numbers[index] = scale * f32::from(NON_LINEAR[usize::from(byte & 15)]);
            numbers[index + 16] = scale * f32::from(NON_LINEAR[usize::from(byte >> 4)]);
        }
    }
}
