//! Small copies of pictures for grids. Where they are kept is the caller's business.

use std::path::Path;

use image::{RgbImage, imageops};

use crate::{
    decode::{Picture, decode},
    encode::encode_jpeg,
    error::{Error, Result},
    video::poster,
};

/// The longest sides that thumbnails come in, in pixels.
pub const THUMBNAIL_SIZES: [u32; 2] = [256, 512];

/// The quality of thumbnails, of 100.
const QUALITY: u8 = 85;

/// A JPEG of the picture whose longest side is `longest` pixels, or the picture's own where that is
/// shorter. It carries no metadata.
pub fn thumbnail(bytes: &[u8], longest: u32) -> Result<Vec<u8>> {
    let picture = shrink(decode(bytes)?, longest)?;
    encode_jpeg(&picture.rgb, picture.width, picture.height, QUALITY)
}

/// The same of a clip's first picture. GIF and WebP clips are clips here too.
pub fn clip_thumbnail(path: &Path, longest: u32) -> Result<Vec<u8>> {
    let picture = shrink(poster(path)?, longest)?;
    encode_jpeg(&picture.rgb, picture.width, picture.height, QUALITY)
}

/// The picture shrunk until its longest side is `longest`; never enlarged.
pub(crate) fn shrink(picture: Picture, longest: u32) -> Result<Picture> {
    let (width, height) = (picture.width, picture.height);
    let side = width.max(height);
    let longest = longest.max(1);
    if side <= longest {
        return Ok(picture);
    }
    let scaled = |length: u32, longest: u32| {
        let exact = f64::from(length) * f64::from(longest) / f64::from(side);
        (exact.round() as u32).max(1)
    };
    let mut image = RgbImage::from_raw(width, height, picture.rgb)
        .ok_or_else(|| Error::damaged("its pixels do not fill its size"))?;
    // Averaging whole pixels down to twice the size is fast; the last halving is done well.
    let middle = longest.saturating_mul(2);
    if side > middle {
        image = imageops::thumbnail(&image, scaled(width, middle), scaled(height, middle));
    }
    let (width, height) = (scaled(width, longest), scaled(height, longest));
    let small = imageops::resize(&image, width, height, imageops::FilterType::CatmullRom);
    Ok(Picture {
        width,
        height,
        rgb: small.into_raw(),
    })
}
