//! Clips as animated GIF: one palette for the whole clip, chosen from all of its colours, and error
//! diffusion. Pixels that do not change from one picture to the next are left transparent, so that
//! what stands still does not flicker.
//!
//! The palette is known only when the last picture is: the pictures wait in a spool beside the file.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use gif::{AnyExtension, DisposalMethod, Encoder, EncodingError, Extension, Frame, Repeat};

use super::{ClipSpec, FrameSpool};
use crate::error::{Error, Result};

/// Palette entry of what does not change.
const CLEAR: u8 = 255;

/// A GIF being written.
pub(super) struct Gif {
    spec: ClipSpec,
    path: PathBuf,
    spool: FrameSpool,
    histogram: Histogram,
    comments: Vec<String>,
    /// Every so many pictures one is shown.
    stride: u64,
    pushed: u64,
}

/// Every how many pictures one is kept: GIF counts in hundredths of a second, and browsers slow down
/// whatever lasts less than two.
pub(super) fn stride(rate: kinora_core::FrameRate) -> u32 {
    (rate.per_second() / 50.0).ceil().max(1.0) as u32
}

impl Gif {
    pub(super) fn create(path: &Path, spec: &ClipSpec, comments: Vec<String>) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".frames");
        let spool_path = path.with_file_name(name);
        let spool = FrameSpool::create(&spool_path, spec.width, spec.height)?;
        // Without a name it is gone with this process, however that ends.
        fs::remove_file(&spool_path).map_err(|source| Error::Write {
            path: spool_path,
            source,
        })?;
        Ok(Self {
            spec: spec.clone(),
            path: path.to_owned(),
            spool,
            histogram: Histogram::new(),
            comments,
            stride: u64::from(stride(spec.rate)),
            pushed: 0,
        })
    }

    pub(super) fn push(&mut self, rgb: &[u8]) -> Result<()> {
        self.pushed += 1;
        if !(self.pushed - 1).is_multiple_of(self.stride) {
            return Ok(());
        }
        self.histogram.count(rgb);
        self.spool.append(rgb)
    }

    /// Writes the file; returns how many pictures it has.
    pub(super) fn finish(mut self) -> Result<u64> {
        let frames = self.spool.frames();
        let wrong = |error: EncodingError| match error {
            EncodingError::Io(source) => Error::Write {
                path: self.path.clone(),
                source,
            },
            error => self.spec.refused(&error.to_string()),
        };
        let file = File::create(&self.path).map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })?;
        let palette = self.histogram.palette(usize::from(CLEAR));
        let mut table = palette.concat();
        table.resize(256 * 3, 0);
        // The sides were checked when the clip was begun.
        let (width, height) = (self.spec.width as u16, self.spec.height as u16);
        let writer = BufWriter::with_capacity(1 << 20, file);
        let mut encoder = Encoder::new(writer, width, height, &table).map_err(wrong)?;
        encoder.set_repeat(Repeat::Infinite).map_err(wrong)?;
        for comment in &self.comments {
            let kind = AnyExtension::from(Extension::Comment);
            encoder
                .write_raw_extension(kind, &[comment.as_bytes()])
                .map_err(wrong)?;
        }
        let mut mapper = Mapper::new(palette, self.spec.width as usize);
        let (mut rgb, mut before) = (Vec::new(), Vec::new());
        for index in 0..frames {
            self.spool.read(index, &mut rgb)?;
            let pixels = mapper.map(&rgb, &before);
            let frame = Frame {
                width,
                height,
                buffer: pixels.into(),
                delay: self.delay(index),
                transparent: Some(CLEAR),
                dispose: DisposalMethod::Keep,
                ..Frame::default()
            };
            encoder.write_frame(&frame).map_err(wrong)?;
            std::mem::swap(&mut rgb, &mut before);
        }
        let mut writer = encoder.into_inner().map_err(wrong)?;
        writer.flush().map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })?;
        Ok(frames)
    }

    /// How long a picture lasts, in hundredths of a second; roundings do not add up.
    fn delay(&self, index: u64) -> u16 {
        let rate = self.spec.rate;
        let begins = |index: u64| {
            let exact = u128::from(index * self.stride) * 100 * u128::from(rate.denominator);
            let numerator = u128::from(rate.numerator);
            (exact + numerator / 2) / numerator
        };
        u16::try_from(begins(index + 1) - begins(index)).unwrap_or(u16::MAX)
    }
}

/// How often each colour occurs, in bins of 8 × 8 × 8.
struct Histogram {
    bins: Vec<Bin>,
}

#[derive(Clone, Copy, Default)]
struct Bin {
    count: u64,
    sums: [u64; 3],
}

impl Histogram {
    fn new() -> Self {
        Self {
            bins: vec![Bin::default(); 1 << 15],
        }
    }

    fn count(&mut self, rgb: &[u8]) {
        for pixel in rgb.chunks_exact(3) {
            let index = pixel
                .iter()
                .fold(0, |index, value| index << 5 | usize::from(value >> 3));
            let bin = &mut self.bins[index];
            bin.count += 1;
            for (sum, value) in bin.sums.iter_mut().zip(pixel) {
                *sum += u64::from(*value);
            }
        }
    }

    /// At most `size` colours: the box of colours with the largest error is cut at its mean, across
    /// its longest spread, until there are enough.
    fn palette(&self, size: usize) -> Vec<[u8; 3]> {
        let used: Vec<Bin> = self.bins.iter().copied().filter(|b| b.count > 0).collect();
        let mut boxes = vec![ColourBox::new(used)];
        while boxes.len() < size {
            let worst = boxes
                .iter()
                .enumerate()
                .filter(|(_, one)| one.bins.len() > 1 && one.error > 0.0)
                .max_by(|a, b| a.1.error.total_cmp(&b.1.error).then(b.0.cmp(&a.0)));
            let Some((index, _)) = worst else { break };
            let (low, high) = boxes.swap_remove(index).split();
            boxes.push(low);
            boxes.push(high);
        }
        boxes.iter().map(ColourBox::colour).collect()
    }
}

struct ColourBox {
    bins: Vec<Bin>,
    mean: [f64; 3],
    axis: usize,
    /// Sum of squared distances from the mean, over all pixels, along the longest spread.
    error: f64,
}

impl ColourBox {
    fn new(bins: Vec<Bin>) -> Self {
        let count: u64 = bins.iter().map(|bin| bin.count).sum();
        let weight = (count.max(1)) as f64;
        let mean = [0, 1, 2]
            .map(|axis| bins.iter().map(|bin| bin.sums[axis]).sum::<u64>() as f64 / weight);
        let spread = [0, 1, 2].map(|axis| {
            let squares = bins.iter().map(|bin| {
                let offset = bin.sums[axis] as f64 / bin.count as f64 - mean[axis];
                offset * offset * bin.count as f64
            });
            squares.sum::<f64>()
        });
        let axis = [0, 1, 2].into_iter().fold(0, |best, axis| {
            if spread[axis] > spread[best] {
                axis
            } else {
                best
            }
        });
        Self {
            bins,
            mean,
            axis,
            error: spread[axis],
        }
    }

    fn split(self) -> (Self, Self) {
        let (axis, mean) = (self.axis, self.mean[self.axis]);
        let (low, high) = self
            .bins
            .into_iter()
            .partition(|bin| bin.sums[axis] as f64 / bin.count as f64 <= mean);
        (Self::new(low), Self::new(high))
    }

    fn colour(&self) -> [u8; 3] {
        self.mean.map(|value| value.round().clamp(0.0, 255.0) as u8)
    }
}

/// Pixels into palette entries, by Floyd and Steinberg's error diffusion, every other row backwards.
struct Mapper {
    palette: Vec<[u8; 3]>,
    width: usize,
    /// Nearest entry by the upper six bits of each channel; 255: not looked up yet.
    nearest: Vec<u8>,
}

impl Mapper {
    fn new(palette: Vec<[u8; 3]>, width: usize) -> Self {
        Self {
            palette,
            width,
            nearest: vec![CLEAR; 1 << 18],
        }
    }

    /// The picture in palette entries; `before` is the picture before it, or empty.
    fn map(&mut self, rgb: &[u8], before: &[u8]) -> Vec<u8> {
        let width = self.width;
        let mut out = vec![CLEAR; rgb.len() / 3];
        // Sixteenths, with a column of margin on each side.
        let mut errors = [vec![[0_i32; 3]; width + 2], vec![[0_i32; 3]; width + 2]];
        for (y, line) in rgb.chunks_exact(width * 3).enumerate() {
            let [current, next] = &mut errors;
            next.fill([0; 3]);
            let is_backwards = y % 2 == 1;
            for step in 0..width {
                let x = if is_backwards { width - 1 - step } else { step };
                let (ahead, behind) = if is_backwards { (x, x + 2) } else { (x + 2, x) };
                let pixel = &line[x * 3..x * 3 + 3];
                let at = (y * width + x) * 3;
                // Its error is dropped too: a still part must not be stirred by its neighbours.
                if before.get(at..at + 3) == Some(pixel) {
                    continue;
                }
                let wanted = [0, 1, 2]
                    .map(|c| (i32::from(pixel[c]) + (current[x + 1][c] + 8) / 16).clamp(0, 255));
                let entry = self.find(wanted);
                out[y * width + x] = entry;
                let got = self.palette[usize::from(entry)];
                for c in 0..3 {
                    let error = wanted[c] - i32::from(got[c]);
                    current[ahead][c] += error * 7;
                    next[behind][c] += error * 3;
                    next[x + 1][c] += error * 5;
                    next[ahead][c] += error;
                }
            }
            errors.swap(0, 1);
        }
        out
    }

    fn find(&mut self, colour: [i32; 3]) -> u8 {
        let index = colour
            .iter()
            .fold(0, |index, value| index << 6 | (*value as usize >> 2));
        if self.nearest[index] == CLEAR {
            // The middle of the cell stands for all of it, whichever of its colours came first.
            let middle = colour.map(|value| value & !3 | 2);
            let distance = |entry: &[u8; 3]| {
                let square = |c: usize| (middle[c] - i32::from(entry[c])).pow(2);
                // Eyes weigh green most.
                3 * square(0) + 6 * square(1) + square(2)
            };
            let best = (0..self.palette.len()).min_by_key(|i| distance(&self.palette[*i]));
            self.nearest[index] = best.unwrap_or(0) as u8;
        }
        self.nearest[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_colours_are_kept_as_they_are() {
        let colours = [[0, 0, 0], [255, 255, 255], [200, 30, 40], [10, 90, 250]];
        let rgb: Vec<u8> = colours.iter().flatten().copied().collect();
        let mut histogram = Histogram::new();
        histogram.count(&rgb);
        let mut palette = histogram.palette(255);
        palette.sort();
        let mut wanted = colours.to_vec();
        wanted.sort();
        assert_eq!(palette, wanted);
    }

    #[test]
    fn what_stands_still_is_transparent() {
        let mut mapper = Mapper::new(vec![[0; 3], [255; 3]], 4);
        let before = [0, 0, 0, 255, 255, 255].repeat(4);
        let mut now = before.clone();
        now[0..3].fill(255);
        let out = mapper.map(&now, &before);
        assert_eq!(out, [1, CLEAR, CLEAR, CLEAR, CLEAR, CLEAR, CLEAR, CLEAR]);
    }

    #[test]
    fn a_grey_between_two_entries_becomes_a_mixture_of_them() {
        let mut mapper = Mapper::new(vec![[0; 3], [255; 3]], 64);
        let out = mapper.map(&[64; 64 * 64 * 3], &[]);
        let white = out.iter().filter(|entry| **entry == 1).count() as f64;
        assert!((white / 4096.0 - 64.0 / 255.0).abs() < 0.01);
    }
}
