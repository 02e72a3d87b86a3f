//! Encoded pictures into pixels, within limits.

use std::io::Cursor;

use image::{ImageReader, Limits, metadata::Orientation};
use kinora_core::ImageFormat;

use crate::{
    container::{jpeg, png, probe, webp},
    error::{Error, Result},
};

/// The most pixels that Kinora decodes in one picture: 100 million, 300 MB as RGB.
pub const MAX_PIXELS: u64 = 100_000_000;

/// A decoded picture, eight bits per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// (height, width, 3), row by row.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: colour.repeat(width as usize * height as usize),
        }
    }
}

/// Decodes a PNG, JPEG or WebP. Transparency is laid over white; deeper channels become eight bits;
/// a photo that says how the camera was held stands upright.
///
/// # Errors
/// `UnsupportedFile`, `Damaged`, and `TooLarge` beyond [`MAX_PIXELS`], told before memory is taken.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    let header = probe(bytes)?;
    let pixels = u64::from(header.width) * u64::from(header.height);
    if pixels > MAX_PIXELS {
        return Err(Error::TooLarge {
            width: header.width,
            height: header.height,
            limit: MAX_PIXELS / 1_000_000,
        });
    }
    let format = match header.format {
        ImageFormat::Png => image::ImageFormat::Png,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Webp => image::ImageFormat::WebP,
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(header.width);
    limits.max_image_height = Some(header.height);
    // Sixteen bits in four channels, and as much again for the decoder's own buffers.
    limits.max_alloc = Some(pixels * 16 + (32 << 20));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut image = reader
        .decode()
        .map_err(|error| Error::damaged(error.to_string()))?;
    // Read by our own bounded reader: a length that a file claims must not take memory.
    let orientation = match header.format {
        ImageFormat::Png => png::orientation(bytes),
        ImageFormat::Jpeg => jpeg::orientation(bytes),
        ImageFormat::Webp => webp::orientation(bytes),
    };
    let orientation = orientation
        .and_then(|orientation| Orientation::from_exif(u8::try_from(orientation).ok()?))
        .unwrap_or(Orientation::NoTransforms);
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let rgb = if image.color().has_alpha() {
        let over_white = |colour: u8, alpha: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(alpha));
            ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        let rgba = image.into_rgba8();
        let pixels = rgba.pixels();
        pixels
            .flat_map(|p| [0, 1, 2].map(|channel| over_white(p[channel], p[3])))
            .collect()
    } else {
        image.into_rgb8().into_raw()
    };
    Ok(Picture { width, height, rgb })
}
