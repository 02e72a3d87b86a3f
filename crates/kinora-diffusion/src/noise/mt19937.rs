//! PyTorch's CPU generator: MT19937, and the two ways in which `torch.randn` turns its words into
//! normals. After ATen's `core/MT19937RNGEngine.h`, `core/DistributionsHelper.h` and
//! `native/cpu/DistributionTemplates.h`.

use std::f64::consts::TAU;

const STATE: usize = 624;
const SHIFT: usize = 397;

/// Box–Muller works on blocks of this many uniforms: eight radii, then eight angles.
const BLOCK: usize = 16;

/// `torch.Generator("cpu")`.
///
/// The words are exactly PyTorch's. The normals agree with an x86-64 build within 1e-6: PyTorch
/// computes logarithm, sine and cosine with polynomials of its own, which differ from build to
/// build in the last place.
#[derive(Clone, Debug)]
pub struct CpuGenerator {
    state: [u32; STATE],
    next: usize,
    /// The second number of a pair, which draws of fewer than 16 numbers leave to the next such.
    spare: Option<f64>,
}

impl CpuGenerator {
    /// Starts from a seed. Only its low 32 bits count, as in PyTorch.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; STATE];
        for index in 1..STATE {
            let last = state[index - 1];
            state[index] = (last ^ (last >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(index as u32);
        }
        Self {
            state,
            next: STATE,
            spare: None,
        }
    }

    /// The state as bytes: the words, how many of them are used up, and the spare number.
    pub(super) fn save(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .state
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.extend((self.next as u32).to_le_bytes());
        bytes.extend(self.spare.map_or(f64::NAN, |spare| spare).to_le_bytes());
        bytes
    }

    /// From what [`CpuGenerator::save`] gave.
    pub(super) fn restore(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.split_at_checked(4 * STATE)?;
        let (next, spare) = rest.split_at_checked(4)?;
        let next = u32::from_le_bytes(next.try_into().ok()?) as usize;
        let spare = f64::from_le_bytes(spare.try_into().ok()?);
        let mut state = [0; STATE];
        for (word, bytes) in state.iter_mut().zip(words.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        (next <= STATE).then_some(Self {
            state,
            next,
            spare: (!spare.is_nan()).then_some(spare),
        })
    }

    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// The next two words, the high one first.
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        (high << 32) | u64::from(self.next_u32())
    }

    fn twist(&mut self) {
        for index in 0..STATE {
            let upper = self.state[index] & 0x8000_0000;
            let mixed = upper | (self.state[(index + 1) % STATE] & 0x7fff_ffff);
            let matrix = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + SHIFT) % STATE] ^ (mixed >> 1) ^ matrix;
        }
        self.next = 0;
    }

    /// From 0 (inclusive) to 1, in steps of 2⁻²⁴.
    fn next_uniform(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// From 0 (inclusive) to 1, in steps of 2⁻⁵³.
    fn next_uniform_f64(&mut self) -> f64 {
        const BITS: u64 = 1 << 53;
        (self.next_u64() & (BITS - 1)) as f64 * (1.0 / BITS as f64)
    }

    /// Draws as `torch.randn(n, dtype=torch.float32)`.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            out.fill_with(|| self.next_normal() as f32);
        } else {
            self.fill_blocks(out, Self::next_uniform, transform_block);
        }
    }

    /// Draws as `torch.randn(n, dtype=torch.float64)`.
    pub fn fill_normal_f64(&mut self, out: &mut [f64]) {
        if out.len() < BLOCK {
            out.fill_with(|| self.next_normal());
        } else {
            self.fill_blocks(out, Self::next_uniform_f64, transform_block_f64);
        }
    }

    /// The long way: all uniforms first, then blocks of 16 in place. A rest that fills no block is
    /// overwritten by a fresh block over the last 16 numbers.
    fn fill_blocks<T: Copy>(
        &mut self,
        out: &mut [T],
        uniform: impl Fn(&mut Self) -> T,
        transform: impl Fn(&mut [T; BLOCK]),
    ) {
        out.fill_with(|| uniform(self));
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(&transform);
        if !rest.is_empty()
            && let Some(last) = out.last_chunk_mut::<BLOCK>()
        {
            last.fill_with(|| uniform(self));
            transform(last);
        }
    }

    /// The short way: pairs in f64, one after the other.
    fn next_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = TAU * self.next_uniform_f64();
        let radius = (-2.0 * (-self.next_uniform_f64()).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Box–Muller with every intermediate value rounded to f32, as PyTorch does. The angle's rounding
/// alone moves a number by up to 2e-6.
fn transform_block(block: &mut [f32; BLOCK]) {
    for index in 0..BLOCK / 2 {
        let log = f64::from(1.0 - block[index]).ln() as f32;
        let radius = (-2.0 * log).sqrt();
        let (sin, cos) = f64::from(TAU as f32 * block[index + BLOCK / 2]).sin_cos();
        block[index] = radius * cos as f32;
        block[index + BLOCK / 2] = radius * sin as f32;
    }
}

fn transform_block_f64(block: &mut [f64; BLOCK]) {
    for index in 0..BLOCK / 2 {
        let radius = (-2.0 * (1.0 - block[index]).ln()).sqrt();
        let (sin, cos) = (TAU * block[index + BLOCK / 2]).sin_cos();
        block[index] = radius * cos;
        block[index + BLOCK / 2] = radius * sin;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kinora_weights::{Dtype, WeightSet};

    use super::*;

    // What tools/goldens/record_noise.py drew.
    const SEEDS: [u64; 4] = [0, 42, (1 << 32) + 7, u64::MAX];
    const LARGE: [usize; 6] = [255, 256, 257, 1000, 4096, 65537];
    const SEQUENCE: [usize; 9] = [3, 16, 2, 5, 20, 1, 1, 7, 33];

    fn recorded() -> WeightSet {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        WeightSet::open_file(&folder.join("noise.safetensors")).unwrap()
    }

    fn read(set: &WeightSet, name: &str) -> Vec<f64> {
        let bytes = set.read(name).unwrap();
        match set.get(name).unwrap().dtype {
            Dtype::F32 => {
                let (words, _) = bytes.as_chunks();
                words
                    .iter()
                    .map(|word| f64::from(f32::from_le_bytes(*word)))
                    .collect()
            }
            Dtype::F64 => {
                let (words, _) = bytes.as_chunks();
                words.iter().map(|word| f64::from_le_bytes(*word)).collect()
            }
            other => panic!("{name} is {other}"),
        }
    }

    fn draw(generator: &mut CpuGenerator, size: usize) -> Vec<f64> {
        let mut out = vec![f32::NAN; size];
        generator.fill_normal(&mut out);
        out.into_iter().map(f64::from).collect()
    }

    #[track_caller]
    fn assert_close(ours: &[f64], theirs: &[f64], tolerance: f64, what: &str) {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        let worst = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| (ours - theirs).abs())
            .fold(0.0, f64::max);
        assert!(worst <= tolerance, "{what}: off by {worst}");
    }

    /// The value that the C++ standard demands of `std::mt19937`.
    #[test]
    fn the_ten_thousandth_word_is_the_standard_one() {
        let mut generator = CpuGenerator::new(5489);
        let word = (0..10_000).map(|_| generator.next_u32()).last();
        assert_eq!(word, Some(4_123_659_995));
    }

    #[test]
    fn words_are_those_of_pytorch() {
        let set = recorded();
        for (index, seed) in SEEDS.into_iter().enumerate() {
            let bytes = set.read(&format!("words.{index}")).unwrap();
            let mut generator = CpuGenerator::new(seed);
            let words: Vec<u64> = (0..1000).map(|_| generator.next_u64()).step_by(7).collect();
            let (theirs, _) = bytes.as_chunks();
            let theirs: Vec<u64> = theirs
                .iter()
                .map(|word| u64::from_le_bytes(*word))
                .collect();
            assert_eq!(words, theirs, "seed {seed}");
        }
    }

    #[test]
    fn normals_of_every_size_are_those_of_pytorch() {
        let set = recorded();
        for (index, seed) in SEEDS.into_iter().enumerate() {
            let sizes: Vec<usize> = if index < 2 {
                (1..=70).collect()
            } else {
                vec![1, 2, 15, 16, 17, 31, 32, 33, 64, 70]
            };
            let theirs = read(&set, &format!("small.{index}"));
            let mut rest = theirs.as_slice();
            for size in sizes {
                let (part, after) = rest.split_at(size);
                let ours = draw(&mut CpuGenerator::new(seed), size);
                assert_close(&ours, part, 1e-6, &format!("seed {seed}, size {size}"));
                rest = after;
            }
            assert!(rest.is_empty());
            for size in LARGE {
                let ours = draw(&mut CpuGenerator::new(seed), size);
                let mut kept = ours[..32].to_vec();
                kept.extend(ours.iter().step_by(61));
                kept.extend(&ours[size - 20..]);
                let theirs = read(&set, &format!("large.{index}.{size}"));
                assert_close(&kept, &theirs, 1e-6, &format!("seed {seed}, size {size}"));
            }
        }
    }

    #[test]
    fn draws_in_a_row_are_those_of_pytorch() {
        let set = recorded();
        for (index, seed) in SEEDS.into_iter().enumerate() {
            let mut generator = CpuGenerator::new(seed);
            let ours: Vec<f64> = SEQUENCE
                .iter()
                .flat_map(|size| draw(&mut generator, *size))
                .collect();
            let theirs = read(&set, &format!("sequence.{index}"));
            assert_close(&ours, &theirs, 1e-6, &format!("seed {seed}"));

            let mut generator = CpuGenerator::new(seed);
            let mut ours = Vec::new();
            for size in SEQUENCE {
                let mut out = vec![f64::NAN; size];
                generator.fill_normal_f64(&mut out);
                ours.extend(out);
            }
            let theirs = read(&set, &format!("double.{index}"));
            assert_close(&ours, &theirs, 1e-14, &format!("seed {seed} in f64"));
        }
    }
}
