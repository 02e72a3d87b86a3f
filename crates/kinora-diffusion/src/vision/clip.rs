//! The vision side of CLIP: patches of a square picture through a transformer. After
//! `transformers/models/clip/modeling_clip.py` and its image processor.

use candle_core::{DType, Tensor};
use kinora_weights::ClipVisionParts;

use super::resample::{Filter, crop_centre, resize};
use crate::{
    Result,
    error::bail_shape,
    layers::{LayerNorm, Linear, Weights, on_workers},
    pipelines::RgbImage,
    text::clip::Block,
};

/// Mean and deviation of the colours of the pictures that CLIP was trained on, 0 to 1.
const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// The vision side of CLIP, up to its last block but one.
#[derive(Debug)]
pub struct ClipVision {
    /// (width)
    class: Tensor,
    patches: Linear,
    /// (patches + 1, width)
    positions: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
    parts: ClipVisionParts,
    dtype: DType,
}

impl ClipVision {
    /// Loads the encoder from the root of its weights. The last norm is read and not used.
    pub fn load(weights: &Weights, parts: &ClipVisionParts) -> Result<Self> {
        let sizes = &parts.sizes;
        let (hidden, patch) = (sizes.hidden, sizes.patch_size);
        let embeddings = weights.at("embeddings");
        // Here so that a file without it is found to be damaged.
        LayerNorm::load(&weights.at("post_layernorm"), hidden, parts.blocks.norm_eps)?;
        Ok(Self {
            class: embeddings.get("class_embedding", &[hidden])?,
            patches: Linear::new(
                embeddings
                    .get_flattened_matrix("patch_embedding.weight", &[hidden, 3, patch, patch])?,
                None,
            )?,
            positions: embeddings.get("position_embedding.weight", &[sizes.positions, hidden])?,
            norm: LayerNorm::load(&weights.at("pre_layrnorm"), hidden, parts.blocks.norm_eps)?,
            blocks: (0..sizes.layers)
                .map(|layer| Block::load(&weights.at("encoder.layers").at(layer), &parts.blocks))
                .collect::<Result<_>>()?,
            parts: parts.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Rows that a picture becomes: one for each patch, and one for the whole.
    pub fn tokens(&self) -> usize {
        self.parts.sizes.positions
    }

    /// A picture as the network takes it, (1, 3, size, size): the shorter side resized, the middle
    /// cut out, colours normalised.
    pub fn prepare(&self, image: &RgbImage) -> Result<Tensor> {
        let size = self.parts.image_size as u32;
        let (width, height) = (u64::from(image.width), u64::from(image.height));
        let longer = |long: u64, short: u64| (u64::from(size) * long / short.max(1)) as u32;
        let (new_width, new_height) = if width <= height {
            (size, longer(height, width))
        } else {
            (longer(width, height), size)
        };
        let square = crop_centre(
            &resize(image, new_width, new_height, Filter::Bicubic)?,
            size,
        )?;
        let plane = (size * size) as usize;
        let mut values = vec![0f32; 3 * plane];
        for (i, pixel) in square.rgb.as_chunks::<3>().0.iter().enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                let (mean, std) = (MEAN[channel] * 255.0, STD[channel] * 255.0);
                values[channel * plane + i] = (f32::from(*value) - mean as f32) / std as f32;
            }
        }
        let size = size as usize;
        let tensor = Tensor::from_vec(values, (1, 3, size, size), self.class.device())?;
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// What goes into the last block, (batch, patches + 1, width), for prepared pictures
    /// (batch, 3, size, size).
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = pixels.dims4()?;
        let (size, patch) = (self.parts.image_size, self.parts.sizes.patch_size);
        if [channels, height, width] != [3, size, size] {
            bail_shape!(
                "CLIP takes pictures of {size} pixels, not {:?}",
                pixels.dims()
            );
        }
        let side = size / patch;
        let patches = pixels
            .reshape(&[batch, 3, side, patch, side, patch])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch, side * side, 3 * patch * patch))?;
        on_workers(pixels.device(), || {
            let patches = self.patches.forward(&patches)?;
            let hidden = self.parts.sizes.hidden;
            let class = self.class.reshape((1, 1, hidden))?;
            let class = class.broadcast_as((batch, 1, hidden))?.contiguous()?;
            let x = Tensor::cat(&[&class, &patches], 1)?;
            let mut x = self.norm.forward(&x.broadcast_add(&self.positions)?)?;
            // The last block's result is not asked for.
            for block in self.blocks.split_last().map_or(&[][..], |(_, rest)| rest) {
                x = block.forward(&x, false)?;
            }
            Ok(x)
        })
    }
}
