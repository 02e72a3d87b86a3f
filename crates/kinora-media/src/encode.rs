//! Pixels into encoded pictures. Every encoder here is a function of its input alone: no time, no
//! thread count, no machine goes into the bytes.

use image::{ColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use kinora_core::{ImageFormat, Recipe};

use crate::{
    error::{Error, Result},
    metadata,
};

/// The quality of lossy pictures, of 100.
const QUALITY: u8 = 95;

/// Encodes RGB pixels (height, width, 3), with the recipe inside.
pub fn encode(
    rgb: &[u8],
    width: u32,
    height: u32,
    format: ImageFormat,
    recipe: &Recipe,
) -> Result<Vec<u8>> {
    let pixels = encode_pixels(rgb, width, height, format)?;
    metadata::embed(&pixels, format, recipe)
}

/// Encodes RGB pixels (height, width, 3) without any metadata: PNG without loss, the others at
/// quality 95.
pub(crate) fn encode_pixels(
    rgb: &[u8],
    width: u32,
    height: u32,
    format: ImageFormat,
) -> Result<Vec<u8>> {
    match format {
        ImageFormat::Png => encode_png(rgb, width, height),
        ImageFormat::Jpeg => encode_jpeg(rgb, width, height, QUALITY),
        ImageFormat::Webp => encode_webp(rgb, width, height),
    }
}

fn encode_png(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    check(rgb, width, height, ImageFormat::Png, u32::MAX >> 1)?;
    let refuse =
        |error: png::EncodingError| refuse(width, height, ImageFormat::Png, error.to_string());
    let mut out = Vec::with_capacity(rgb.len() / 2);
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header().map_err(refuse)?;
    writer.write_image_data(rgb).map_err(refuse)?;
    writer.finish().map_err(refuse)?;
    Ok(out)
}

/// Encodes RGB pixels (height, width, 3) as a JPEG of a quality from 1 to 100, without metadata: for
/// previews and thumbnails.
pub fn encode_jpeg(rgb: &[u8], width: u32, height: u32, quality: u8) -> Result<Vec<u8>> {
    check(rgb, width, height, ImageFormat::Jpeg, u32::from(u16::MAX))?;
    let mut out = Vec::with_capacity(rgb.len() / 8);
    JpegEncoder::new_with_quality(&mut out, quality.clamp(1, 100))
        .write_image(rgb, width, height, ColorType::Rgb8.into())
        .map_err(|error| refuse(width, height, ImageFormat::Jpeg, error.to_string()))?;
    Ok(out)
}

fn encode_webp(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    // The format has 14 bits for a side.
    check(rgb, width, height, ImageFormat::Webp, 16_383)?;
    webp::Encoder::from_rgb(rgb, width, height)
        .encode_simple(false, f32::from(QUALITY))
        .map(|memory| memory.to_vec())
        .map_err(|error| refuse(width, height, ImageFormat::Webp, format!("{error:?}")))
}

fn check(rgb: &[u8], width: u32, height: u32, format: ImageFormat, max_side: u32) -> Result<()> {
    let bytes = u64::from(width) * u64::from(height) * 3;
    let problem = if width == 0 || height == 0 {
        "a side is zero".to_owned()
    } else if width > max_side || height > max_side {
        format!("the format's sides end at {max_side}")
    } else if bytes != rgb.len() as u64 {
        format!(
            "{} bytes of pixels were given where {bytes} belong",
            rgb.len()
        )
    } else {
        return Ok(());
    };
    Err(refuse(width, height, format, problem))
}

fn refuse(width: u32, height: u32, format: ImageFormat, what: String) -> Error {
    Error::Encode {
        width,
        height,
        format,
        what,
    }
}
