//! A clip that is longer than what the network sees at once: windows that cover its latent frames
//! at every step, and one answer for the clip from the answers for the windows.
//!
//! - **Where they lie.** As few windows as cover the clip, all of the same length. The first begins
//!   with the clip and the last ends with it; those between keep their distance from each other and
//!   move together from step to step, so that no frame is near the end of a window every time. Their
//!   number does not change, and every step costs the same.
//! - **How they are blended.** Over the frames that two windows share, the earlier one fades into
//!   the later one linearly. The later one begins with weight 0: a network that was trained on whole
//!   clips takes the first frame for the beginning of a scene, and its answer there is of no use.
//!   The blend is of velocities, before the sampler's step, so that the sampler sees one clip.
//! - **What is given.** Where the clip begins with a picture, every later window has it in place of
//!   its own first frame, whose answer does not count: without a picture, networks that were trained
//!   to continue one make something else.
//! - **Positions** of the network count from the beginning of the window: it never sees any that it
//!   was not trained on.

use candle_core::Tensor;

use crate::{Result, error::bail_shape};

/// The windows of a clip, in latent frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    clip: usize,
    len: usize,
    overlap: usize,
    has_first: bool,
}

/// One window at one step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    /// Its first latent frame.
    start: usize,
    /// The latent frame that stands in the place of that one.
    first: usize,
    /// Latent frames of the clip.
    clip: usize,
    /// What its answer counts for each of its latent frames, 0 to 1.
    weights: Vec<f32>,
}

impl Windows {
    /// Windows of `len` latent frames for a clip of `clip`, which is longer; neighbours share
    /// `overlap` at least, from 1 to `len` − 1. `has_first`: the clip's first frame is given, and
    /// every window begins with it.
    pub fn new(clip: usize, len: usize, overlap: usize, has_first: bool) -> Self {
        let len = len.clamp(2, clip.max(2));
        Self {
            clip: clip.max(len),
            len,
            overlap: overlap.clamp(1, len - 1),
            has_first,
        }
    }

    /// Latent frames of a window.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first latent frame of each window at a step, in order.
    fn starts(&self, step: usize) -> Vec<usize> {
        let last = self.clip - self.len;
        if last == 0 {
            return vec![0];
        }
        let stride = self.len - self.overlap;
        // Windows between the first and the last, and how far they can move without a gap.
        let between = last.div_ceil(stride) - 1;
        let room = between * stride + stride - last;
        // Fractions that fill the unit interval evenly, however many steps there are: 0, ½, ¼, ¾ …
        let fraction = u64::from((step as u32).reverse_bits());
        let moved = (fraction * (room as u64 + 1)) >> 32;
        let first = stride - moved as usize;
        let inner = (0..between).map(|i| first + i * stride);
        [0].into_iter().chain(inner).chain([last]).collect()
    }

    /// The windows of a step. The weights of all of them add up to 1 at every latent frame.
    pub fn at(&self, step: usize) -> Vec<Window> {
        let starts = self.starts(step);
        let count = starts.len();
        // How much the end of the window before counts at a frame, and the beginning of the next.
        let fade = |frame: usize, earlier: usize, later: usize| {
            let shared = earlier + self.len - later;
            (frame - later) as f64 / shared as f64
        };
        let mut weights: Vec<Vec<f64>> = (0..count)
            .map(|i| {
                (starts[i]..starts[i] + self.len)
                    .map(|frame| {
                        let up = match i.checked_sub(1).map(|before| starts[before]) {
                            Some(before) => fade(frame, before, starts[i]).min(1.0),
                            None => 1.0,
                        };
                        let down = match starts.get(i + 1) {
                            Some(&after) if frame >= after => 1.0 - fade(frame, starts[i], after),
                            _ => 1.0,
                        };
                        up.min(down)
                    })
                    .collect()
            })
            .collect();
        // More than two may share a frame.
        let mut sums = vec![0.0; self.clip];
        for (start, weights) in starts.iter().zip(&weights) {
            for (sum, weight) in sums[*start..].iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        for (start, weights) in starts.iter().zip(&mut weights) {
            for (sum, weight) in sums[*start..].iter().zip(weights) {
                *weight /= sum;
            }
        }
        (starts.into_iter().zip(weights))
            .map(|(start, weights)| Window {
                start,
                first: if self.has_first { 0 } else { start },
                clip: self.clip,
                weights: weights.into_iter().map(|weight| weight as f32).collect(),
            })
            .collect()
    }
}

impl Window {
    /// What the network sees of (batch, channels, latent frames, rows, columns).
    pub fn cut(&self, latents: &Tensor) -> Result<Tensor> {
        let len = self.weights.len();
        if self.first == self.start {
            return Ok(latents.narrow(2, self.start, len)?.contiguous()?);
        }
        let first = latents.narrow(2, self.first, 1)?;
        let rest = latents.narrow(2, self.start + 1, len - 1)?;
        Ok(Tensor::cat(&[first, rest], 2)?)
    }
}

/// The answers for the windows of a step on their way to one for the clip.
#[derive(Debug, Default)]
pub(crate) struct Blend(Option<Tensor>);

impl Blend {
    /// Adds the answer for a window: (batch, channels, latent frames, rows, columns), f32.
    pub fn add(&mut self, window: &Window, answer: &Tensor) -> Result<()> {
        let len = window.weights.len();
        if answer.dims5()?.2 != len {
            bail_shape!("{:?} for a window of {len} frames", answer.dims());
        }
        let weights = Tensor::from_slice(&window.weights, (1, 1, len, 1, 1), answer.device())?;
        let end = window.clip - window.start - len;
        let part = answer
            .broadcast_mul(&weights)?
            .pad_with_zeros(2, window.start, end)?;
        self.0 = Some(match self.0.take() {
            Some(sum) => (sum + part)?,
            None => part,
        });
        Ok(())
    }

    /// The answer for the clip.
    pub fn finish(self) -> Result<Tensor> {
        match self.0 {
            Some(sum) => Ok(sum),
            None => bail_shape!("there is no window"),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use kinora_core::count_windows;

    use super::*;

    /// Every clip, window and overlap that is small, at several steps.
    fn each(mut check: impl FnMut(&Windows, usize)) {
        for clip in 2..48 {
            for len in 2..=clip.min(22) {
                for overlap in 1..len {
                    let windows = Windows::new(clip, len, overlap, false);
                    for step in 0..9 {
                        check(&windows, step);
                    }
                }
            }
        }
    }

    #[test]
    fn windows_cover_the_clip_and_share_what_they_should() {
        each(|windows, step| {
            let starts = windows.starts(step);
            let (clip, len, overlap) = (windows.clip, windows.len, windows.overlap);
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, clip - len));
            for pair in starts.windows(2) {
                assert!(
                    pair[0] < pair[1] && pair[1] + overlap <= pair[0] + len,
                    "{starts:?}"
                );
            }
            // As many at every step, as the plan says.
            let frames = |latent: usize| latent as u32 * 4 - 3;
            let count = count_windows(frames(clip), frames(len), overlap as u32 * 4, 4);
            assert_eq!(starts.len(), count as usize, "{windows:?}");
        });
    }

    #[test]
    fn weights_add_up_to_one_at_every_frame() {
        each(|windows, step| {
            let mut sums = vec![0f32; windows.clip];
            for window in windows.at(step) {
                assert_eq!(window.weights.len(), windows.len);
                // The beginning of a window that does not begin the clip counts nothing.
                assert_eq!(window.weights[0], f32::from(u8::from(window.start == 0)));
                for (sum, weight) in sums[window.start..].iter_mut().zip(&window.weights) {
                    assert!((0.0..=1.0).contains(weight), "{window:?}");
                    *sum += weight;
                }
            }
            assert!(
                sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6),
                "{windows:?} {sums:?}"
            );
        });
    }

    #[test]
    fn windows_move_with_the_step_where_they_can() {
        // 161 frames in windows of 81 that share 16.
        let windows = Windows::new(41, 21, 4, false);
        let starts: Vec<_> = (0..4).map(|step| windows.starts(step)).collect();
        assert_eq!(starts, [[0, 17, 20], [0, 10, 20], [0, 14, 20], [0, 6, 20]]);
        // Two windows begin and end with the clip: there is nothing to move.
        let windows = Windows::new(38, 21, 4, false);
        assert_eq!(windows.starts(0), [0, 17]);
        assert_eq!(windows.starts(1), [0, 17]);
    }

    #[test]
    fn later_windows_begin_with_a_given_frame() {
        let latents = Tensor::arange(0f32, 10.0, &Device::Cpu).unwrap();
        let latents = latents.reshape((1, 1, 10, 1, 1)).unwrap();
        let see = |has_first| -> Vec<Vec<f32>> {
            let windows = Windows::new(10, 6, 2, has_first);
            let cut = |window: &Window| {
                let seen = window.cut(&latents).unwrap().flatten_all().unwrap();
                seen.to_vec1().unwrap()
            };
            windows.at(0).iter().map(cut).collect()
        };
        let first = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(see(false), [first, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]]);
        assert_eq!(see(true), [first, [0.0, 5.0, 6.0, 7.0, 8.0, 9.0]]);
    }

    #[test]
    fn a_network_that_answers_the_same_everywhere_gives_that() {
        for (clip, len, overlap) in [(10, 6, 2), (41, 21, 8), (30, 9, 6)] {
            let windows = Windows::new(clip, len, overlap, true);
            for step in 0..5 {
                let mut blend = Blend::default();
                for window in windows.at(step) {
                    let answer = Tensor::full(0.7f32, (1, 2, len, 3, 2), &Device::Cpu).unwrap();
                    blend.add(&window, &answer).unwrap();
                }
                let answer = blend.finish().unwrap();
                assert_eq!(answer.dims(), [1, 2, clip, 3, 2]);
                for value in answer.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
                    assert!((value - 0.7).abs() < 1e-6, "{value}");
                }
            }
        }
        assert!(Blend::default().finish().is_err());
    }
}
