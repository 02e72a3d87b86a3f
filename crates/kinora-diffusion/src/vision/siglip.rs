//! The vision side of SigLIP: patches of a square picture through a transformer. After
//! `transformers/models/siglip/modeling_siglip.py` and its image processor.

use candle_core::{DType, Tensor};
use kinora_weights::SiglipConfig;

use super::resample::{Filter, resize};
use crate::{
    Result,
    error::bail_shape,
    layers::{LayerNorm, Linear, Weights, on_workers},
    pipelines::RgbImage,
    text::clip::Block,
};

/// Mean and deviation of every colour, of 255.
const HALF: f32 = 127.5;

/// The vision side of SigLIP, up to the norm behind its last block. The head that pools what it sees
/// into one row is not read: who asks for every patch has no use for it.
#[derive(Debug)]
pub struct SiglipVision {
    patches: Linear,
    /// (patches, width)
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    config: SiglipConfig,
    dtype: DType,
}

impl SiglipVision {
    /// Loads the encoder from the root of its weights.
    pub fn load(weights: &Weights, config: &SiglipConfig) -> Result<Self> {
        let (hidden, patch) = (config.hidden, config.patch_size);
        let embeddings = weights.at("embeddings");
        let matrix = embeddings
            .get_flattened_matrix("patch_embedding.weight", &[hidden, 3, patch, patch])?;
        let bias = embeddings.get("patch_embedding.bias", &[hidden])?;
        let blocks = config.blocks();
        Ok(Self {
            patches: Linear::new(matrix, Some(bias))?,
            positions: embeddings.get("position_embedding.weight", &[config.tokens(), hidden])?,
            blocks: (0..config.layers)
                .map(|layer| Block::load(&weights.at("encoder.layers").at(layer), &blocks))
                .collect::<Result<_>>()?,
            norm: LayerNorm::load(&weights.at("post_layernorm"), hidden, config.norm_eps)?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// A picture as the network takes it, (1, 3, size, size): resized to a square whatever its shape,
    /// colours from −1 to 1.
    pub fn prepare(&self, image: &RgbImage) -> Result<Tensor> {
        let size = self.config.image_size;
        let square = resize(image, size as u32, size as u32, Filter::Bicubic)?;
        let plane = size * size;
        let mut values = vec![0f32; 3 * plane];
        for (i, pixel) in square.rgb.as_chunks::<3>().0.iter().enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                values[channel * plane + i] = (f32::from(*value) - HALF) / HALF;
            }
        }
        let tensor = Tensor::from_vec(values, (1, 3, size, size), self.positions.device())?;
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// A row for each patch, (batch, patches, width), of prepared pictures (batch, 3, size, size).
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = pixels.dims4()?;
        let (size, patch) = (self.config.image_size, self.config.patch_size);
        if [channels, height, width] != [3, size, size] {
            bail_shape!(
                "SigLIP takes pictures of {size} pixels, not {:?}",
                pixels.dims()
            );
        }
        let side = self.config.side();
        // What no whole patch covers is not seen.
        let seen = side * patch;
        let patches = pixels
            .narrow(2, 0, seen)?
            .narrow(3, 0, seen)?
            .contiguous()?
            .reshape(&[batch, 3, side, patch, side, patch])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch, side * side, 3 * patch * patch))?;
        on_workers(pixels.device(), || {
            let patches = self.patches.forward(&patches)?;
            let mut x = patches.broadcast_add(&self.positions)?;
            for block in &self.blocks {
                x = block.forward(&x, false)?;
            }
            self.norm.forward(&x)
        })
    }
}
