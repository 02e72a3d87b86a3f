//! From a decoder's pixels to 8-bit pictures and frames, and the check that there is a picture at
//! all.

use candle_core::{DType, Tensor};

use super::{RgbImage, RunWatch};
use crate::{Error, Result, error::bail_shape};

/// Fails unless every element is finite and they are not all the same.
pub(crate) fn check(stage: &'static str, tensor: &Tensor) -> Result<()> {
    let values = tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::NotFinite {
            stage,
            fault: "not finite",
        });
    }
    if values.len() > 1 && values.iter().all(|value| *value == values[0]) {
        return Err(Error::NotFinite {
            stage,
            fault: "one constant value",
        });
    }
    Ok(())
}

/// (1, 3, height, width) in −1 to 1 → 8 bits, rounded half to even as the reference does.
pub(crate) fn to_rgb(pixels: &Tensor) -> Result<RgbImage> {
    let (batch, channels, height, width) = pixels.dims4()?;
    if batch != 1 || channels != 3 {
        bail_shape!("a picture of {:?}", pixels.dims());
    }
    let values = pixels
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let plane = height * width;
    let mut rgb = vec![0; 3 * plane];
    for (i, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        for (channel, value) in pixel.iter_mut().enumerate() {
            *value = to_byte(values[channel * plane + i]);
        }
    }
    Ok(RgbImage {
        width: width as u32,
        height: height as u32,
        rgb,
    })
}

/// −1 to 1 → 8 bits.
fn to_byte(value: f32) -> u8 {
    let unit = (value / 2.0 + 0.5).clamp(0.0, 1.0);
    (unit * 255.0).round_ties_even() as u8
}

/// Frames in 8 bits that come in parts.
#[derive(Debug)]
pub(crate) struct Canvas(Vec<RgbImage>);

impl Canvas {
    /// Black frames.
    pub fn new(count: u32, width: u32, height: u32) -> Self {
        let frame = RgbImage {
            width,
            height,
            rgb: vec![0; 3 * width as usize * height as usize],
        };
        Self(vec![frame; count as usize])
    }

    /// Puts a part, (3, height, width) in −1 to 1, into a frame at a row and a column.
    ///
    /// # Errors
    /// [`Error::NotFinite`], and [`Error::Shape`] where the frame has no such place.
    pub fn put(&mut self, frame: usize, place: [usize; 2], pixels: &Tensor) -> Result<()> {
        let (channels, height, width) = pixels.dims3()?;
        let [top, left] = place;
        let fits = |image: &&mut RgbImage| {
            channels == 3
                && top + height <= image.height as usize
                && left + width <= image.width as usize
        };
        let Some(image) = self.0.get_mut(frame).filter(fits) else {
            bail_shape!(
                "a part of {:?} at {place:?} of frame {frame}",
                pixels.dims()
            );
        };
        let values = pixels
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite {
                stage: "clip",
                fault: "not finite",
            });
        }
        let (plane, columns) = (height * width, image.width as usize);
        for y in 0..height {
            let start = 3 * ((top + y) * columns + left);
            let line = &mut image.rgb[start..start + 3 * width];
            for (x, pixel) in line.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = to_byte(values[channel * plane + y * width + x]);
                }
            }
        }
        Ok(())
    }

    /// The frames, in order.
    pub fn into_frames(self) -> Vec<RgbImage> {
        self.0
    }
}

/// The frames of a clip on their way out.
#[derive(Debug)]
pub(crate) struct Frames {
    job: usize,
    count: u32,
    told: u32,
    /// The value that all pixels have so far.
    constant: Option<f32>,
    is_varied: bool,
}

impl Frames {
    /// A clip of `count` frames.
    pub fn new(job: usize, count: u32) -> Self {
        Self {
            job,
            count,
            told: 0,
            constant: None,
            is_varied: false,
        }
    }

    /// Hands on the next frames, (frames, 3, height, width) in −1 to 1.
    ///
    /// # Errors
    /// [`Error::NotFinite`], and what the watch says.
    pub fn tell(&mut self, pixels: &Tensor, watch: &mut dyn RunWatch) -> Result<()> {
        let pixels = pixels.to_dtype(DType::F32)?;
        for frame in 0..pixels.dim(0)? {
            let frame = pixels.narrow(0, frame, 1)?.contiguous()?;
            let values = frame.flatten_all()?.to_vec1::<f32>()?;
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::NotFinite {
                    stage: "clip",
                    fault: "not finite",
                });
            }
            let first = *self.constant.get_or_insert(values[0]);
            self.is_varied |= values.iter().any(|value| *value != first);
            watch.frame(self.job, self.told, self.count, to_rgb(&frame)?)?;
            self.told += 1;
        }
        Ok(())
    }

    /// Hands on a frame that is in 8 bits already.
    pub fn tell_ready(&mut self, frame: RgbImage, watch: &mut dyn RunWatch) -> Result<()> {
        let first = *self.constant.get_or_insert(f32::from(frame.rgb[0]));
        self.is_varied |= frame.rgb.iter().any(|value| f32::from(*value) != first);
        watch.frame(self.job, self.told, self.count, frame)?;
        self.told += 1;
        Ok(())
    }

    /// After the last frame.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when nothing is to be seen, [`Error::Shape`] when frames are missing.
    pub fn finish(self) -> Result<()> {
        if self.told != self.count {
            bail_shape!("{} frames came of {}", self.told, self.count);
        }
        if !self.is_varied {
            return Err(Error::NotFinite {
                stage: "clip",
                fault: "one constant value",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn pixels_are_rounded_and_interleaved() {
        let values = [-1.0f32, 1.0, 0.0, -3.0, 0.5, 9.0];
        let pixels = Tensor::from_slice(&values, (1, 3, 1, 2), &Device::Cpu).unwrap();
        let picture = to_rgb(&pixels).unwrap();
        assert_eq!(picture.rgb, [0, 128, 191, 255, 0, 255]);
        assert_eq!((picture.width, picture.height), (2, 1));
        assert!(to_rgb(&pixels.reshape((1, 2, 1, 3)).unwrap()).is_err());
    }

    #[test]
    fn parts_of_a_frame_come_to_their_places() {
        let pixels = |values: &[f32], shape| Tensor::from_slice(values, shape, &Device::Cpu);
        let mut canvas = Canvas::new(2, 2, 1);
        let part = pixels(&[-1.0, 0.0, 1.0], (3, 1, 1)).unwrap();
        canvas.put(1, [0, 1], &part).unwrap();
        assert!(canvas.put(1, [0, 2], &part).is_err());
        assert!(canvas.put(2, [0, 0], &part).is_err());
        let wild = pixels(&[f32::NAN, 0.0, 1.0], (3, 1, 1)).unwrap();
        assert!(matches!(
            canvas.put(0, [0, 0], &wild),
            Err(Error::NotFinite { .. })
        ));
        let frames = canvas.into_frames();
        assert_eq!(frames[0].rgb, [0; 6]);
        assert_eq!(frames[1].rgb, [0, 0, 0, 0, 128, 255]);
    }

    #[test]
    fn nothing_and_nonsense_are_told_apart_from_a_picture() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        assert!(check("picture", &tensor(&[0.0, 0.1])).is_ok());
        for (values, word) in [
            ([0.3, 0.3], "constant"),
            ([0.0, f32::NAN], "finite"),
            ([0.0, f32::INFINITY], "finite"),
        ] {
            let error = check("picture", &tensor(&values)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
