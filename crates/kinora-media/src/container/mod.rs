//! Files as lists of blocks (PNG chunks, JPEG segments, WebP chunks, MP4 boxes, EBML elements):
//! walked, cut and put together again without touching a pixel. What the blocks mean is the business of `metadata`.

pub(crate) mod ebml;
pub(crate) mod exif;
pub(crate) mod gif;
pub(crate) mod jpeg;
pub(crate) mod mp4;
pub(crate) mod png;
pub(crate) mod webp;
pub(crate) mod xmp;

use kinora_core::ImageFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The format that a file's first bytes announce.
pub fn detect_format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(png::SIGNATURE) {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some(ImageFormat::Jpeg)
    } else if bytes.len() >= 12 && &bytes[..4] == b"RIFF" && &bytes[8..12] == b"WEBP" {
        Some(ImageFormat::Webp)
    } else {
        None
    }
}

/// What a file's header says about its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// File format.
    pub format: ImageFormat,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Reads format and size from the header. Decodes nothing.
pub fn probe(bytes: &[u8]) -> Result<Probe> {
    let format = detect_format(bytes).ok_or(Error::UnsupportedFile)?;
    let size = match format {
        ImageFormat::Png => png::size(bytes),
        ImageFormat::Jpeg => jpeg::size(bytes),
        ImageFormat::Webp => webp::size(bytes),
    };
    let (width, height) = size.ok_or_else(|| Error::damaged("its header has no size"))?;
    if width == 0 || height == 0 {
        return Err(Error::damaged("its header tells a size of zero"));
    }
    Ok(Probe {
        format,
        width,
        height,
    })
}

/// The same picture without anything that tells how it was made: texts, EXIF, XMP, comments and
/// what follows the picture's end. The pixels' bytes, the colour profile and the orientation stay.
pub fn strip_metadata(bytes: &[u8]) -> Result<Vec<u8>> {
    match detect_format(bytes).ok_or(Error::UnsupportedFile)? {
        ImageFormat::Png => png::strip(bytes),
        ImageFormat::Jpeg => jpeg::strip(bytes),
        ImageFormat::Webp => webp::strip(bytes),
    }
}

/// Big-endian u32 at an offset.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// Little-endian u32 at an offset.
fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}
