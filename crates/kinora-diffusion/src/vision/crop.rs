//! Painting inside of a mask at the source's own resolution: the region around the mask is cut out,
//! brought to the size that the network works on, and what comes back is set into the source. Bytes
//! outside the mask's feather band stay as they were.

use super::resample::{Filter, check, resize};
use crate::{Error, Result, pipelines::RgbImage};

/// The region gets this share of the mask's longer side around it, so that the network sees what it
/// paints next to.
const MARGIN: f64 = 0.25;

/// The least margin, in pixels of the source.
const LEAST_MARGIN: u32 = 32;

/// Width of the band in which new and old fade into each other, as a share of the region's shorter
/// side.
const FEATHER: f64 = 1.0 / 64.0;

/// A mask: one byte a pixel, rows from the top; from 128 on the pixel is painted anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// One byte a pixel.
    pub values: Vec<u8>,
}

impl Mask {
    /// A picture as a mask: as bright as its brightest channel.
    pub fn of(image: &RgbImage) -> Self {
        let values = image.rgb.chunks_exact(3);
        Self {
            width: image.width,
            height: image.height,
            values: values
                .map(|pixel| pixel.iter().copied().max().unwrap_or(0))
                .collect(),
        }
    }

    /// The mask in another size. A pixel is painted anew where any of the pixels that it stands for
    /// is: thin strokes are not lost.
    pub fn resize(&self, width: u32, height: u32) -> Self {
        let span = |i: u32, from: u32, to: u32| {
            let first = u64::from(i) * u64::from(from) / u64::from(to);
            let end = (u64::from(i + 1) * u64::from(from)).div_ceil(u64::from(to));
            (first as usize, (end as usize).max(first as usize + 1))
        };
        let mut values = Vec::with_capacity(width as usize * height as usize);
        for row in 0..height {
            let (top, bottom) = span(row, self.height, height);
            for column in 0..width {
                let (left, right) = span(column, self.width, width);
                let largest = (top..bottom)
                    .flat_map(|y| &self.values[y * self.width as usize..][left..right])
                    .copied()
                    .max();
                values.push(largest.unwrap_or(0));
            }
        }
        Self {
            width,
            height,
            values,
        }
    }

    /// The smallest rectangle around everything that is painted anew: left, top, width, height.
    fn bounds(&self) -> Option<[u32; 4]> {
        let (mut left, mut right, mut top, mut bottom) = (u32::MAX, 0, u32::MAX, 0);
        for (i, value) in self.values.iter().enumerate() {
            if *value >= 128 {
                let (x, y) = (i as u32 % self.width, i as u32 / self.width);
                (left, right) = (left.min(x), right.max(x));
                (top, bottom) = (top.min(y), bottom.max(y));
            }
        }
        (left <= right).then(|| [left, top, right - left + 1, bottom - top + 1])
    }
}

/// A region of a source that is painted anew, and how it goes back.
#[derive(Clone, Debug)]
pub struct Crop {
    source: RgbImage,
    mask: Mask,
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    /// What the network works on, in pixels.
    target: (u32, u32),
}

impl Crop {
    /// The region around what the mask covers, of the shape of `target` as far as the source allows.
    ///
    /// # Errors
    /// Source and mask differ in size, or the mask covers nothing.
    pub fn around(source: RgbImage, mask: Mask, target: (u32, u32)) -> Result<Self> {
        check(&source)?;
        if (source.width, source.height) != (mask.width, mask.height) {
            return Err(Error::BadRequest(format!(
                "the mask has {} × {} pixels and the picture {} × {}",
                mask.width, mask.height, source.width, source.height
            )));
        }
        let Some([left, top, width, height]) = mask.bounds() else {
            return Err(Error::BadRequest(
                "the mask covers nothing; white is what is painted anew".to_owned(),
            ));
        };
        let margin = ((f64::from(width.max(height)) * MARGIN) as u32).max(LEAST_MARGIN);
        let shape = f64::from(target.0) / f64::from(target.1.max(1));
        let (mut wide, mut high) = (
            f64::from(width.saturating_add(2 * margin)),
            f64::from(height.saturating_add(2 * margin)),
        );
        if wide / high < shape {
            wide = high * shape;
        } else {
            high = wide / shape;
        }
        let (left, width) = place(left, width, wide, source.width);
        let (top, height) = place(top, height, high, source.height);
        Ok(Self {
            source,
            mask,
            left,
            top,
            width,
            height,
            target,
        })
    }

    /// Left, top, width and height of the region in the source, in pixels.
    pub fn region(&self) -> [u32; 4] {
        [self.left, self.top, self.width, self.height]
    }

    /// Picture and mask as the network gets them.
    pub fn cut(&self) -> Result<(RgbImage, Vec<u8>)> {
        let (wide, rows) = (self.source.width as usize, self.rows());
        let cut = |bytes: &[u8], channels: usize| -> Vec<u8> {
            rows.clone()
                .flat_map(|row| {
                    let first = (row * wide + self.left as usize) * channels;
                    bytes[first..first + self.width as usize * channels].to_vec()
                })
                .collect()
        };
        let image = RgbImage {
            width: self.width,
            height: self.height,
            rgb: cut(&self.source.rgb, 3),
        };
        let mask = Mask {
            width: self.width,
            height: self.height,
            values: cut(&self.mask.values, 1),
        };
        let (width, height) = self.target;
        Ok((
            resize(&image, width, height, Filter::Lanczos)?,
            mask.resize(width, height).values,
        ))
    }

    /// The source with `painted`, of the target's size, in the region: wholly where the mask covers
    /// it, less and less in a band around that, not at all beyond.
    pub fn stitch(&self, painted: &RgbImage) -> Result<RgbImage> {
        let painted = resize(painted, self.width, self.height, Filter::Lanczos)?;
        let shares = self.shares();
        let mut result = self.source.clone();
        let wide = self.source.width as usize;
        for (y, row) in self.rows().enumerate() {
            for x in 0..self.width as usize {
                let from = y * self.width as usize + x;
                let share = shares[from];
                if share == 0.0 {
                    continue;
                }
                let to = 3 * (row * wide + self.left as usize + x);
                for channel in 0..3 {
                    let old = f32::from(result.rgb[to + channel]);
                    let new = f32::from(painted.rgb[3 * from + channel]);
                    result.rgb[to + channel] = (old + share * (new - old)).round() as u8;
                }
            }
        }
        Ok(result)
    }

    fn rows(&self) -> std::ops::Range<usize> {
        self.top as usize..(self.top + self.height) as usize
    }

    /// How much of the new picture each pixel of the region shows, 0 to 1.
    fn shares(&self) -> Vec<f32> {
        let band = (f64::from(self.width.min(self.height)) * FEATHER).max(1.0) as f32;
        let (wide, high) = (self.width as usize, self.height as usize);
        let source_wide = self.source.width as usize;
        // Distance to the mask by chamfers of 3 and 4 thirds of a pixel (G. Borgefors, "Distance
        // transformations in digital images", 1986).
        let far = u32::MAX / 2;
        let mut distance: Vec<u32> = (self.rows())
            .flat_map(|row| {
                let first = row * source_wide + self.left as usize;
                &self.mask.values[first..first + wide]
            })
            .map(|value| if *value >= 128 { 0 } else { far })
            .collect();
        let near = |distance: &[u32], x: usize, y: usize, dx: isize, dy: isize, cost: u32| {
            let x = x.checked_add_signed(dx).filter(|x| *x < wide);
            let y = y.checked_add_signed(dy).filter(|y| *y < high);
            match (x, y) {
                (Some(x), Some(y)) => distance[y * wide + x].saturating_add(cost),
                _ => far,
            }
        };
        for (sign, rows) in [(-1, false), (1, true)] {
            for i in 0..wide * high {
                let i = if rows { wide * high - 1 - i } else { i };
                let (x, y) = (i % wide, i / wide);
                let least = [
                    (sign, 0, 3),
                    (0, sign, 3),
                    (sign, sign, 4),
                    (-sign, sign, 4),
                ]
                .into_iter()
                .map(|(dx, dy, cost)| near(&distance, x, y, dx, dy, cost))
                .fold(distance[i], u32::min);
                distance[i] = least;
            }
        }
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        distance
            .into_iter()
            .map(|thirds| smooth((1.0 - thirds as f32 / 3.0 / (band + 1.0)).clamp(0.0, 1.0)))
            .collect()
    }
}

/// A stretch of `wanted` pixels around `first..first + length`, inside of `all`.
fn place(first: u32, length: u32, wanted: f64, all: u32) -> (u32, u32) {
    let wanted = (wanted.round() as u32)
        .clamp(length, all.max(length))
        .min(all);
    let centre = i64::from(first) + i64::from(length) / 2;
    let start = (centre - i64::from(wanted) / 2).clamp(0, i64::from(all - wanted));
    (start as u32, wanted)
}

/// A picture brought to a size: the middle of it, of that shape, scaled.
pub fn fill(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage> {
    check(image)?;
    let shape = f64::from(width) / f64::from(height.max(1));
    let (wide, high) = (f64::from(image.width), f64::from(image.height));
    let (cut_wide, cut_high) = if wide / high > shape {
        (
            ((high * shape).round() as u32).clamp(1, image.width),
            image.height,
        )
    } else {
        (
            image.width,
            ((wide / shape).round() as u32).clamp(1, image.height),
        )
    };
    let (left, top) = ((image.width - cut_wide) / 2, (image.height - cut_high) / 2);
    if (cut_wide, cut_high) == (image.width, image.height) {
        return resize(image, width, height, Filter::Lanczos);
    }
    let rgb = (top..top + cut_high)
        .flat_map(|row| {
            let first = 3 * (row as usize * image.width as usize + left as usize);
            &image.rgb[first..first + 3 * cut_wide as usize]
        })
        .copied()
        .collect();
    let cut = RgbImage {
        width: cut_wide,
        height: cut_high,
        rgb,
    };
    resize(&cut, width, height, Filter::Lanczos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture in which every pixel can be told from its neighbours.
    fn picture(width: u32, height: u32) -> RgbImage {
        let rgb = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, (x * 7 + y * 13) as u8]));
        RgbImage {
            width,
            height,
            rgb: rgb.collect(),
        }
    }

    fn mask(width: u32, height: u32, is_new: impl Fn(u32, u32) -> bool) -> Mask {
        let values = (0..width * height)
            .map(|i| if is_new(i % width, i / width) { 255 } else { 0 })
            .collect();
        Mask {
            width,
            height,
            values,
        }
    }

    fn grey(width: u32, height: u32) -> RgbImage {
        RgbImage {
            width,
            height,
            rgb: vec![200; 3 * width as usize * height as usize],
        }
    }

    #[test]
    fn bytes_outside_the_band_stay_and_the_mask_is_painted_wholly() {
        let inside = |x: u32, y: u32| (100..140).contains(&x) && (60..90).contains(&y);
        let source = picture(300, 200);
        let crop = Crop::around(source.clone(), mask(300, 200, inside), (64, 64)).unwrap();
        let [left, top, width, height] = crop.region();
        assert!(left < 100 && top < 60 && left + width > 140 && top + height > 90);
        assert_eq!(width, height, "of the target's shape");
        let (image, values) = crop.cut().unwrap();
        assert_eq!((image.width, image.height, values.len()), (64, 64, 64 * 64));
        assert!(values.contains(&255) && values.contains(&0));
        let result = crop.stitch(&grey(64, 64)).unwrap();
        let mut changed = 0;
        for y in 0..200 {
            for x in 0..300 {
                let at = 3 * (y * 300 + x) as usize;
                let (old, new) = (&source.rgb[at..at + 3], &result.rgb[at..at + 3]);
                if inside(x, y) {
                    assert_eq!(new, [200; 3], "{x} {y}");
                } else if !((97..143).contains(&x) && (57..93).contains(&y)) {
                    assert_eq!(new, old, "{x} {y}");
                } else if new != old {
                    changed += 1;
                }
            }
        }
        assert!(changed > 0, "there is a band");
    }

    #[test]
    fn regions_stay_inside_of_the_picture() {
        for (x, y) in [(0, 0), (299, 199), (150, 0), (0, 100)] {
            let dot = mask(300, 200, |a, b| (a, b) == (x, y));
            let crop = Crop::around(picture(300, 200), dot, (512, 256)).unwrap();
            let [left, top, width, height] = crop.region();
            assert!(left + width <= 300 && top + height <= 200);
            assert!((left..left + width).contains(&x) && (top..top + height).contains(&y));
            let (_, values) = crop.cut().unwrap();
            assert!(values.contains(&255), "the dot is not lost");
        }
        let whole = mask(40, 30, |_, _| true);
        let crop = Crop::around(picture(40, 30), whole, (64, 64)).unwrap();
        assert_eq!(crop.region(), [0, 0, 40, 30]);
        assert_eq!(crop.stitch(&grey(64, 64)).unwrap(), grey(40, 30));
    }

    #[test]
    fn a_mask_of_nothing_or_of_another_size_is_refused() {
        let nothing = mask(40, 30, |_, _| false);
        assert!(Crop::around(picture(40, 30), nothing, (64, 64)).is_err());
        let other = mask(30, 40, |_, _| true);
        assert!(Crop::around(picture(40, 30), other, (64, 64)).is_err());
    }

    #[test]
    fn a_picture_fills_a_size_with_its_middle() {
        let filled = fill(&picture(200, 100), 50, 50).unwrap();
        assert_eq!((filled.width, filled.height), (50, 50));
        let first = filled.rgb[0];
        assert!((50..54).contains(&first), "begins at a quarter: {first}");
        assert_eq!(fill(&picture(64, 32), 64, 32).unwrap(), picture(64, 32));
    }
}
