//! PyTorch's CUDA generator: Philox4×32-10 and the order in which `torch.randn` spreads it over a
//! tensor. After ATen's `native/cuda/DistributionTemplates.h` and cuRAND's `curand_normal4`.
//!
//! J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

use std::f32::consts::TAU;

use rayon::prelude::*;

/// Threads in a block of PyTorch's kernel.
const BLOCK: u64 = 256;

/// Draws below this are not worth a second thread.
const PARALLEL_FROM: usize = 1 << 14;

/// `torch.Generator("cuda")`.
///
/// Each number has a GPU thread of its own until a device runs out of them; then every thread
/// makes several. So large draws depend on the device: [`CudaGenerator::new`] imagines one that is
/// large enough, as the public re-implementations do, and equals every device whose number of
/// resident threads is not below the size of the draw (an H100 has 270,336, an RTX 4090 196,608;
/// the latents of 1024×1024 pixels are 262,144 numbers). [`CudaGenerator::with_threads`] equals
/// one device at every size.
///
/// The words are exact. The normals agree within a few 1e-6: the device takes sine and cosine in
/// its fast form.
#[derive(Clone, Copy, Debug)]
pub struct CudaGenerator {
    key: [u32; 2],
    /// Groups of four words that every thread has used up.
    offset: u64,
    max_threads: u64,
}

impl CudaGenerator {
    /// Starts from a seed, on a device with enough threads for every draw.
    pub fn new(seed: u64) -> Self {
        Self::with_threads(seed, u64::MAX)
    }

    /// Starts from a seed, on a device that keeps so many threads resident: multiprocessors times
    /// the blocks of 256 threads that fit into one, times 256.
    pub fn with_threads(seed: u64, max_threads: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            offset: 0,
            max_threads: max_threads.max(BLOCK) / BLOCK * BLOCK,
        }
    }

    /// The state as bytes: the key, the groups that are used up, and the threads.
    pub(super) fn save(&self) -> Vec<u8> {
        let key = self.key.iter().flat_map(|word| word.to_le_bytes());
        key.chain(self.offset.to_le_bytes())
            .chain(self.max_threads.to_le_bytes())
            .collect()
    }

    /// From what [`CudaGenerator::save`] gave.
    pub(super) fn restore(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [seed, offset, max_threads] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
        (max_threads >= BLOCK).then(|| Self {
            offset,
            ..Self::with_threads(seed, max_threads)
        })
    }

    /// Draws as `torch.randn(n, dtype=torch.float32, device="cuda")`.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let size = out.len() as u64;
        let threads = size
            .div_ceil(BLOCK)
            .saturating_mul(BLOCK)
            .min(self.max_threads);
        let number = |index: usize| {
            // Thread t makes the numbers t, t + threads, t + 2·threads …, four from each group.
            let (thread, turn) = (index as u64 % threads, index as u64 / threads);
            let counter = self.offset.wrapping_add(turn / 4);
            let words = philox(
                [
                    counter as u32,
                    (counter >> 32) as u32,
                    thread as u32,
                    (thread >> 32) as u32,
                ],
                self.key,
            );
            match turn % 4 {
                0 => box_muller(words[0], words[1]).0,
                1 => box_muller(words[0], words[1]).1,
                2 => box_muller(words[2], words[3]).0,
                _ => box_muller(words[2], words[3]).1,
            }
        };
        if out.len() < PARALLEL_FROM {
            for (index, value) in out.iter_mut().enumerate() {
                *value = number(index);
            }
        } else {
            out.par_iter_mut()
                .with_min_len(PARALLEL_FROM / 4)
                .enumerate()
                .for_each(|(index, value)| *value = number(index));
        }
        let groups = (size - 1) / threads.saturating_mul(4) + 1;
        self.offset = self.offset.wrapping_add(groups);
    }
}

/// Four words from a counter and a key, in ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xd251_1f53;
        let second = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key[0] = key[0].wrapping_add(0x9e37_79b9);
        key[1] = key[1].wrapping_add(0xbb67_ae85);
    }
    counter
}

/// Two normals from two words; the sine comes first.
fn box_muller(first: u32, second: u32) -> (f32, f32) {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    const ANGLE: f32 = STEP * TAU;
    let uniform = (first as f32).mul_add(STEP, STEP / 2.0);
    let angle = (second as f32).mul_add(ANGLE, ANGLE / 2.0);
    let radius = (-2.0 * f64::from(uniform).ln() as f32).sqrt();
    let (sin, cos) = f64::from(angle).sin_cos();
    (radius * sin as f32, radius * cos as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors of Philox publish with Random123.
    #[test]
    fn words_are_the_published_ones() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
            ),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ];
        for (counter, key, words) in cases {
            assert_eq!(philox(counter, key), words);
        }
    }

    #[track_caller]
    fn assert_close(ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert!((ours - theirs).abs() < 3e-6, "{index}: {ours} and {theirs}");
        }
    }

    /// The first numbers of seed 0 as A1111's re-implementation prints them.
    #[test]
    fn normals_are_those_of_the_public_reimplementation() {
        let mut out = [0.0; 12];
        CudaGenerator::new(0).fill_normal(&mut out);
        assert_close(
            &out,
            &[
                -0.924_662_6,
                -0.425_344_14,
                -2.643_845_7,
                0.145_183_88,
                -0.120_866_47,
                -0.579_725_6,
                -0.622_851_2,
                -0.328_387_1,
                -1.074_542_3,
                -0.363_144_07,
                -1.671_050_7,
                2.265_505,
            ],
        );
    }

    #[test]
    fn a_second_draw_goes_on_with_the_next_group() {
        let mut generator = CudaGenerator::new(7);
        let (mut first, mut second) = ([0.0; 8], [0.0; 300]);
        generator.fill_normal(&mut first);
        generator.fill_normal(&mut second);
        for (index, value) in second.iter().enumerate() {
            let words = philox([1, 0, index as u32, 0], [7, 0]);
            assert_eq!(*value, box_muller(words[0], words[1]).0);
        }
        assert_ne!(first, second[..8]);
    }

    /// A device with 512 threads makes number 512 with thread 0 again, from the second word pair's
    /// place in its group, and number 2048 from its next group.
    #[test]
    fn a_small_device_uses_every_thread_several_times() {
        let mut generator = CudaGenerator::with_threads(3, 600);
        let mut out = vec![0.0; 5000];
        generator.fill_normal(&mut out);
        for (index, value) in out.iter().enumerate() {
            let (thread, turn) = (index as u32 % 512, index as u32 / 512);
            let words = philox([turn / 4, 0, thread, 0], [3, 0]);
            let (sin, cos) = if turn % 4 < 2 {
                box_muller(words[0], words[1])
            } else {
                box_muller(words[2], words[3])
            };
            assert_eq!(*value, if turn % 2 == 0 { sin } else { cos });
        }
        // 5000 numbers take three groups of 512 × 4.
        assert_eq!(generator.offset, 3);
    }

    #[test]
    fn large_draws_and_their_seeds_have_no_seams() {
        let mut whole = vec![0.0; 100_000];
        CudaGenerator::new(1 << 40).fill_normal(&mut whole);
        let mut part = vec![0.0; 5000];
        CudaGenerator::new(1 << 40).fill_normal(&mut part);
        assert_eq!(whole[..5000], part);
        let mean = whole.iter().sum::<f32>() / 1e5;
        let square = whole.iter().map(|value| value * value).sum::<f32>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (square - 1.0).abs() < 0.02,
            "{mean} {square}"
        );
        CudaGenerator::new(0).fill_normal(&mut []);
    }
}
