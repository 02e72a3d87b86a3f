//! The pictures that go into a recorded run: PNG files inside its folder.

use std::{
    fs::File,
    io::BufReader,
    path::{Component, Path},
};

use super::case::Case;
use crate::{Error, Result, pipelines::RgbImage};

/// No recorded picture has a longer side.
const MAX_SIDE: u32 = 4096;

/// An RGB picture.
pub(super) fn read_rgb(case: &Case, file: &str) -> Result<RgbImage> {
    let (info, rgb) = read_png(case, file)?;
    if info.color_type != png::ColorType::Rgb {
        return Err(Error::bad_weights(case.path().join(file), "it is not RGB"));
    }
    Ok(RgbImage {
        width: info.width,
        height: info.height,
        rgb,
    })
}

/// The values of a grey picture, row by row.
pub(super) fn read_mask(case: &Case, file: &str) -> Result<Vec<u8>> {
    let (info, samples) = read_png(case, file)?;
    if info.color_type != png::ColorType::Grayscale {
        return Err(Error::bad_weights(case.path().join(file), "it is not grey"));
    }
    Ok(samples)
}

/// 8-bit samples of a PNG, and how many there are for each pixel.
fn read_png(case: &Case, file: &str) -> Result<(png::OutputInfo, Vec<u8>)> {
    let path = case.path().join(file);
    let fault = |error: &dyn std::fmt::Display| Error::bad_weights(&path, error.to_string());
    let is_inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(fault(&"it is no file of the case"));
    }
    let source = BufReader::new(File::open(&path).map_err(Error::io(&path))?);
    let mut reader = png::Decoder::new(source)
        .read_info()
        .map_err(|error| fault(&error))?;
    let (width, height) = reader.info().size();
    if width.max(height) > MAX_SIDE {
        return Err(fault(&"it is too large"));
    }
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| fault(&"it is too large"))?;
    let mut samples = vec![0; size];
    let info = reader
        .next_frame(&mut samples)
        .map_err(|error| fault(&error))?;
    samples.truncate(info.buffer_size());
    if info.bit_depth != png::BitDepth::Eight {
        return Err(fault(&"it has not 8 bits a sample"));
    }
    Ok((info, samples))
}

/// A clip's 8-bit frames as channels over frames: the order of a recorded (3, frames, h, w).
pub(super) fn planes(frames: &[RgbImage]) -> Vec<i64> {
    (0..3)
        .flat_map(|channel| {
            frames
                .iter()
                .flat_map(move |frame| frame.rgb.iter().skip(channel).step_by(3))
        })
        .map(|value| i64::from(*value))
        .collect()
}
