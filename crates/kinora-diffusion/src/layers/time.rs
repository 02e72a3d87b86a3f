//! A step's time, as networks take it that have one table of modulations for all blocks: after
//! `AdaLayerNormSingle` and `PixArtAlphaCombinedTimestepSizeEmbeddings` of the reference library.

use candle_core::{DType, Device, Tensor};

use super::{Activation, Adaptable, Linear, Weights, sinusoid};
use crate::Result;

/// Sines and cosines that a time begins as.
const FREQUENCIES: usize = 256;

/// Two layers over the sines and cosines of a time.
#[derive(Clone, Debug)]
pub struct TimeEmbedding {
    layers: [Linear; 2],
    dtype: DType,
}

impl TimeEmbedding {
    /// `linear_1` and `linear_2` below `weights`.
    pub fn load(weights: &Weights, outputs: usize) -> Result<Self> {
        Ok(Self {
            layers: [
                Linear::load(&weights.at("linear_1"), FREQUENCIES, outputs)?,
                Linear::load(&weights.at("linear_2"), outputs, outputs)?,
            ],
            dtype: weights.dtype(),
        })
    }

    /// (times, outputs) in the network's format. Times as the network was trained: 0 to 1000.
    pub fn forward(&self, times: &[f32], device: &Device) -> Result<Tensor> {
        let table = sinusoid(times, FREQUENCIES, device)?.to_dtype(self.dtype)?;
        let inner = Activation::Silu.forward(&self.layers[0].forward(&table)?)?;
        self.layers[1].forward(&inner)
    }
}

/// The embedded time and what it does to the blocks.
#[derive(Clone, Debug)]
pub struct TimeModulation {
    embedding: TimeEmbedding,
    out: Linear,
    hidden: usize,
}

impl TimeModulation {
    /// `emb.timestep_embedder` and `linear` below `weights`; `parts` rows of `hidden` numbers.
    pub fn load(weights: &Weights, hidden: usize, parts: usize) -> Result<Self> {
        let embedder = weights.at("emb.timestep_embedder");
        Ok(Self {
            embedding: TimeEmbedding::load(&embedder, hidden)?,
            out: Linear::load(&weights.at("linear"), hidden, parts * hidden)?,
            hidden,
        })
    }

    /// The layers that adapters may change.
    pub fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        let [first, second] = &mut self.embedding.layers;
        vec![first, second, &mut self.out]
    }

    /// Modulations, (times, parts, hidden), and embedded times, (times, 1, hidden), f32.
    pub fn forward(&self, times: &[f32], device: &Device) -> Result<(Tensor, Tensor)> {
        let embedding = self.embedding.forward(times, device)?;
        let rows = self.out.forward(&Activation::Silu.forward(&embedding)?)?;
        let shape = (times.len(), (), self.hidden);
        Ok((
            rows.reshape(shape)?.to_dtype(DType::F32)?,
            embedding.unsqueeze(1)?.to_dtype(DType::F32)?,
        ))
    }
}

/// Times without repetition, and which of them each given one is.
pub fn distinct_times(times: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let mut distinct: Vec<f32> = Vec::new();
    let groups = times
        .iter()
        .map(|time| {
            let known = distinct.iter().position(|other| other == time);
            known.unwrap_or_else(|| {
                distinct.push(*time);
                distinct.len() - 1
            }) as u32
        })
        .collect();
    (distinct, groups)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::layers::{
        testing::{assert_close, wave},
        weights::Loaded,
    };

    #[test]
    fn several_times_are_rows_of_their_own() {
        let survey = Weights::survey();
        TimeModulation::load(&survey, 24, 6).unwrap();
        let tensors: HashMap<String, Tensor> = survey
            .asked()
            .into_iter()
            .map(|(name, shape)| (name, (wave(&shape) * 0.1).unwrap()))
            .collect();
        assert!(tensors.contains_key("emb.timestep_embedder.linear_2.bias"));
        let weights = Weights::new(Loaded::new("test", tensors), &Device::Cpu, DType::F32);
        let time = TimeModulation::load(&weights, 24, 6).unwrap();
        let (rows, embedding) = time.forward(&[1000.0, 0.0], &Device::Cpu).unwrap();
        assert_eq!(
            (rows.dims(), embedding.dims()),
            (&[2, 6, 24][..], &[2, 1, 24][..])
        );
        let (alone, _) = time.forward(&[0.0], &Device::Cpu).unwrap();
        assert_close(
            &rows.narrow(0, 1, 1).unwrap().contiguous().unwrap(),
            &alone,
            0.0,
        );
        assert_eq!(
            distinct_times(&[0.0, 5.0, 0.0]),
            (vec![0.0, 5.0], vec![0, 1, 0])
        );
    }
}
