//! Resizing 8-bit pictures with the filters and the roundings of the libraries that the reference
//! uses, so that what a network sees is the same to the last bit: Pillow's Lanczos or bilinear for
//! pictures on their way to a VAE, torchvision's bicubic for those on their way to CLIP.
//!
//! Both work in whole numbers, one direction after the other, rounded to 8 bits in between. They
//! differ in the precision of the weights and in the order of the directions.

use rayon::prelude::*;

use crate::{Result, error::bail_shape, pipelines::RgbImage};

/// Sides beyond are refused before anything is allocated.
const MAX_SIDE: u32 = 32_768;

/// A filter with the whole numbers that its weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Lanczos with three lobes; weights of 22 bits (Pillow).
    Lanczos,
    /// Between neighbours; weights of 22 bits (Pillow).
    Bilinear,
    /// Cubic with a = −½; weights as precise as 16 bits allow (torchvision).
    Bicubic,
}

impl Filter {
    /// Reach in source pixels when the size stays.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| {
            if x == 0.0 {
                1.0
            } else {
                let x = x * std::f64::consts::PI;
                x.sin() / x
            }
        };
        let x = x.abs();
        match self {
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            _ => 0.0,
        }
    }
}

/// The source pixels of one line's results, with whole weights.
struct Taps {
    /// First source pixel and weights of each result.
    lines: Vec<(usize, Vec<i32>)>,
    /// Bits behind the point.
    precision: u32,
}

impl Taps {
    fn new(filter: Filter, source: usize, target: usize) -> Self {
        let scale = source as f64 / target as f64;
        // When the picture shrinks, the filter widens over all pixels that become one.
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let weights: Vec<(usize, Vec<f64>)> = (0..target)
            .map(|i| {
                let centre = (i as f64 + 0.5) * scale;
                let first = (centre - support + 0.5).max(0.0) as usize;
                let end = ((centre + support + 0.5) as usize).min(source);
                let weights: Vec<f64> = (first..end)
                    .map(|x| filter.weight((x as f64 - centre + 0.5) / stretch))
                    .collect();
                let sum: f64 = weights.iter().sum();
                let weights = weights
                    .iter()
                    .map(|w| if sum == 0.0 { *w } else { w / sum });
                (first, weights.collect())
            })
            .collect();
        let precision = match filter {
            Filter::Lanczos | Filter::Bilinear => 22,
            Filter::Bicubic => {
                let largest = weights
                    .iter()
                    .flat_map(|(_, w)| w)
                    .copied()
                    .fold(0.0, f64::max);
                let fits = |bits: &u32| (0.5 + largest * f64::from(1u32 << (bits + 1))) < 32_768.0;
                (0..22).take_while(fits).count() as u32
            }
        };
        let one = f64::from(1u32 << precision);
        let round = |w: &f64| (w * one + 0.5f64.copysign(*w)) as i32;
        let lines = weights
            .into_iter()
            .map(|(first, weights)| (first, weights.iter().map(round).collect()))
            .collect();
        Self { lines, precision }
    }

    /// One result from the source values that `value` names.
    fn apply(&self, i: usize, value: impl Fn(usize) -> u8) -> u8 {
        let (first, weights) = &self.lines[i];
        let mut sum = 1i64 << (self.precision.max(1) - 1);
        for (k, weight) in weights.iter().enumerate() {
            sum += i64::from(*weight) * i64::from(value(first + k));
        }
        (sum >> self.precision).clamp(0, 255) as u8
    }
}

/// The picture in another size. The same size gives the same picture.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> Result<RgbImage> {
    check(image)?;
    if [width, height]
        .iter()
        .any(|side| !(1..=MAX_SIDE).contains(side))
    {
        bail_shape!("a picture of {width} × {height} pixels");
    }
    if is_rows_last(image, (width, height), filter) {
        let image = resize_columns(image, height, filter);
        return Ok(resize_rows(&image, width, filter));
    }
    let image = resize_rows(image, width, filter);
    Ok(resize_columns(&image, height, filter))
}

/// Pillow begins with the columns where a picture loses more than twice as many rows as columns.
/// The order shows, because what lies between is rounded.
fn is_rows_last(image: &RgbImage, (width, height): (u32, u32), filter: Filter) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    filter != Filter::Bicubic
        && height < image.height
        && 2 * lost(image.width, width) < lost(image.height, height)
}

/// Every row in another length.
fn resize_rows(image: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    if image.width == width {
        return image.clone();
    }
    let taps = Taps::new(filter, image.width as usize, width as usize);
    let (from, to) = (3 * image.width as usize, 3 * width as usize);
    let mut rgb = vec![0; to * image.height as usize];
    rgb.par_chunks_exact_mut(to)
        .zip(image.rgb.par_chunks_exact(from))
        .for_each(|(out, row)| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = taps.apply(i / 3, |x| row[3 * x + i % 3]);
            }
        });
    RgbImage {
        width,
        height: image.height,
        rgb,
    }
}

/// Every column in another length.
fn resize_columns(image: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    if image.height == height {
        return image.clone();
    }
    let taps = Taps::new(filter, image.height as usize, height as usize);
    let row = 3 * image.width as usize;
    let mut rgb = vec![0; row * height as usize];
    rgb.par_chunks_exact_mut(row)
        .enumerate()
        .for_each(|(y, out)| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = taps.apply(y, |y| image.rgb[y * row + i]);
            }
        });
    RgbImage {
        width: image.width,
        height,
        rgb,
    }
}

/// The middle square of `size` pixels of a picture that is at least as large.
pub fn crop_centre(image: &RgbImage, size: u32) -> Result<RgbImage> {
    check(image)?;
    if image.width < size || image.height < size {
        bail_shape!(
            "a square of {size} pixels out of {} × {}",
            image.width,
            image.height
        );
    }
    let (left, top) = ((image.width - size) / 2, (image.height - size) / 2);
    let mut rgb = Vec::with_capacity(3 * (size * size) as usize);
    for y in top..top + size {
        let start = 3 * (y as usize * image.width as usize + left as usize);
        rgb.extend_from_slice(&image.rgb[start..start + 3 * size as usize]);
    }
    Ok(RgbImage {
        width: size,
        height: size,
        rgb,
    })
}

/// A picture must have as many bytes as it says.
pub(crate) fn check(image: &RgbImage) -> Result<()> {
    let bytes = u64::from(image.width) * u64::from(image.height) * 3;
    if bytes == 0 || image.rgb.len() as u64 != bytes {
        bail_shape!(
            "a picture of {} × {} pixels with {} bytes",
            image.width,
            image.height,
            image.rgb.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `((x·13 + y·29 + c·57)·(x + 3) / (y + 2)) mod 256` at (x, y), channel c.
    fn picture(width: u32, height: u32) -> RgbImage {
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    rgb.push(((x * 13 + y * 29 + c * 57) * (x + 3) / (y + 2) % 256) as u8);
                }
            }
        }
        RgbImage { width, height, rgb }
    }

    /// Sums of the results of Pillow 13.0.0 and torchvision 0.29.2, with each byte weighted by its
    /// place, so that any difference shows.
    fn fingerprint(image: &RgbImage) -> u64 {
        (1u64..)
            .zip(&image.rgb)
            .map(|(place, byte)| place * u64::from(*byte))
            .sum()
    }

    #[test]
    fn every_byte_is_the_references() {
        let cases = [
            (Filter::Lanczos, (40, 30), (64, 48), 5443934816),
            (Filter::Lanczos, (97, 61), (32, 48), 1357814271),
            (Filter::Lanczos, (16, 16), (16, 40), 238150853),
            (Filter::Lanczos, (120, 33), (50, 33), 1561241527),
            (Filter::Lanczos, (40, 65), (32, 48), 1362989931),
            (Filter::Lanczos, (33, 47), (32, 48), 1362575446),
            (Filter::Lanczos, (50, 71), (32, 48), 1361854345),
            (Filter::Lanczos, (31, 45), (32, 48), 1369380083),
            (Filter::Bicubic, (40, 30), (64, 48), 5444828919),
            (Filter::Bicubic, (97, 61), (32, 48), 1357901396),
            (Filter::Bicubic, (16, 16), (16, 40), 238261913),
            (Filter::Bicubic, (120, 33), (50, 33), 1561499750),
        ];
        for (filter, (w, h), (width, height), expected) in cases {
            let resized = resize(&picture(w, h), width, height, filter).unwrap();
            assert_eq!(
                fingerprint(&resized),
                expected,
                "{filter:?} {w}×{h} to {width}×{height}"
            );
        }
    }

    #[test]
    fn the_middle_is_kept() {
        let image = picture(7, 5);
        let square = crop_centre(&image, 3).unwrap();
        assert_eq!(square.rgb[..3], image.rgb[3 * (7 + 2)..][..3]);
        let same = resize(&image, 7, 5, Filter::Lanczos).unwrap();
        assert_eq!(same, image);
    }

    #[test]
    fn pictures_that_are_not_what_they_say_are_refused() {
        let mut image = picture(4, 4);
        image.rgb.pop();
        assert!(resize(&image, 2, 2, Filter::Lanczos).is_err());
        assert!(resize(&picture(4, 4), 0, 2, Filter::Lanczos).is_err());
        assert!(resize(&picture(4, 4), 2, u32::MAX, Filter::Lanczos).is_err());
        assert!(crop_centre(&picture(4, 4), 5).is_err());
    }
}
