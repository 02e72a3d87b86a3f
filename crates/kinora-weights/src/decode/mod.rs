//! Stored numbers to f32, one at a time: the plain reading of every format, against which faster
//! ones are checked, and good enough for what is read once.
//!
//! Blocks are laid out as in ggml (<https://github.com/ggml-org/ggml>, `ggml-common.h`). Products
//! and sums are taken in f32 in ggml's order, so the results are the same bit for bit.

mod blocks;
mod float8;
mod super_blocks;

use half::{bf16, f16};

use crate::Dtype;

pub use float8::{decode_e4m3, decode_e5m2, decode_e8m0};

/// Decodes whole blocks. `bytes` and `numbers` must be of matching lengths; whatever does not fit
/// the shorter of the two is left alone. Whole numbers become the nearest f32.
pub fn decode(dtype: Dtype, bytes: &[u8], numbers: &mut [f32]) {
    use super_blocks as k;
    match dtype {
        Dtype::Bool => scalars(bytes, numbers, |[byte]: [u8; 1]| {
            f32::from(u8::from(byte != 0))
        }),
        Dtype::U8 => scalars(bytes, numbers, |[byte]: [u8; 1]| f32::from(byte)),
        Dtype::I8 => scalars(bytes, numbers, |[byte]: [u8; 1]| f32::from(byte as i8)),
        Dtype::F8E4M3 => scalars(bytes, numbers, |[byte]: [u8; 1]| decode_e4m3(byte)),
        Dtype::F8E5M2 => scalars(bytes, numbers, |[byte]: [u8; 1]| decode_e5m2(byte)),
        Dtype::F8E8M0 => scalars(bytes, numbers, |[byte]: [u8; 1]| decode_e8m0(byte)),
        Dtype::F4E2M1 => each(bytes, numbers, blocks::decode_e2m1),
        Dtype::U16 => scalars(bytes, numbers, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I16 => scalars(bytes, numbers, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::F16 => scalars(bytes, numbers, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::Bf16 => scalars(bytes, numbers, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::U32 => scalars(bytes, numbers, |b| u32::from_le_bytes(b) as f32),
        Dtype::I32 => scalars(bytes, numbers, |b| i32::from_le_bytes(b) as f32),
        Dtype::F32 => scalars(bytes, numbers, f32::from_le_bytes),
        Dtype::U64 => scalars(bytes, numbers, |b| u64::from_le_bytes(b) as f32),
        Dtype::I64 => scalars(bytes, numbers, |b| i64::from_le_bytes(b) as f32),
        Dtype::F64 => scalars(bytes, numbers, |b| f64::from_le_bytes(b) as f32),
        Dtype::Q4_0 => each(bytes, numbers, blocks::decode_q4_0),
        Dtype::Q4_1 => each(bytes, numbers, blocks::decode_q4_1),
        Dtype::Q5_0 => each(bytes, numbers, blocks::decode_q5_0),
        Dtype::Q5_1 => each(bytes, numbers, blocks::decode_q5_1),
        Dtype::Q8_0 => each(bytes, numbers, blocks::decode_q8_0),
        Dtype::Iq4Nl => each(bytes, numbers, blocks::decode_iq4_nl),
        Dtype::Mxfp4 => each(bytes, numbers, blocks::decode_mxfp4),
        Dtype::Q2K => each(bytes, numbers, k::decode_q2),
        Dtype::Q3K => each(bytes, numbers, k::decode_q3),
        Dtype::Q4K => each(bytes, numbers, k::decode_q4),
        Dtype::Q5K => each(bytes, numbers, k::decode_q5),
        Dtype::Q6K => each(bytes, numbers, k::decode_q6),
        Dtype::Q8K => each(bytes, numbers, k::decode_q8),
        Dtype::Iq4Xs => each(bytes, numbers, k::decode_iq4_xs),
    }
}

fn scalars<const N: usize>(bytes: &[u8], numbers: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *number = decode(*bytes);
    }
}

fn each<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    numbers: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let blocks = bytes.as_chunks::<BYTES>().0;
    for (block, numbers) in blocks.iter().zip(numbers.as_chunks_mut::<LEN>().0) {
        decode(block, numbers);
    }
}

/// A scale in f16 at a place that the block's size guarantees.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
