//! Pictures with Stable Diffusion 1.x and 2.x: one text encoder, a UNet, a VAE. From text, from a
//! picture, or inside of a mask.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Stage;
use kinora_weights::{
    Component, ModelLayout,
    lora::{LoraComponent, LoraTargets},
};

use super::{
    ImageParams, JobTimings, RunLimits, RunWatch,
    unet::{
        UnetStage, milliseconds, open_tokenizer,
        rows::{Conditioning, Prompted, Said},
    },
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    layers::Weights,
    text::{Chunks, ClipEncoder, Tokenizer},
};

/// A Stable Diffusion model with its weights in memory.
pub struct SdPipeline {
    tokenizer: Tokenizer,
    clip: ClipEncoder,
    stage: UnetStage,
}

impl std::fmt::Debug for SdPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SdPipeline({})", self.stage.files())
    }
}

/// A text, how many blocks are skipped, and in how many chunks it goes through the encoder.
type TextKey = (String, u32, usize);

impl Adaptive for SdPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let text = AdaptableNetwork::only(LoraComponent::TextEncoder, self.clip.adaptables());
        vec![self.stage.adaptable_unet(), text]
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        self.stage.read_targets()
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.stage.adapted
    }
}

impl SdPipeline {
    /// Reads every weight. `on_load` is told the share that is done, 0 to 1.
    pub fn open(
        layout: &ModelLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let Some((parts, config)) = layout
            .sd()
            .and_then(|parts| Some((parts, parts.clip.as_ref()?)))
        else {
            let reason = "it is not a Stable Diffusion model";
            return Err(Error::bad_weights(&layout.root, reason));
        };
        let weights = Weights::new(layout.open(Component::TextEncoder)?, device, dtype);
        let clip = ClipEncoder::load(&weights, config)?;
        let total = layout.total_bytes().max(1) as f32;
        let done = layout.bytes_of(Component::TextEncoder) as f32 / total;
        on_load(done);
        Ok(Self {
            tokenizer: open_tokenizer(layout, "tokenizer", config)?,
            clip,
            stage: UnetStage::open(layout, parts, (device, dtype), done, on_load)?,
        })
    }

    /// Denoiser, VAE and schedule.
    pub(crate) fn stage(&self) -> &UnetStage {
        &self.stage
    }

    /// Makes the pictures. See [`Pipeline::run`](super::Pipeline::run).
    pub fn run(
        &mut self,
        jobs: &[ImageParams],
        limits: RunLimits,
        watch: &mut dyn RunWatch,
    ) -> Result<Vec<JobTimings>> {
        for params in jobs {
            self.stage.check(params)?;
        }
        let mut timings = vec![JobTimings::default(); jobs.len()];
        let texts = self.encode(jobs, watch, &mut timings)?;
        self.stage.run(jobs, texts, limits, watch, &mut timings)?;
        Ok(timings)
    }

    /// Every distinct text of the jobs, encoded once.
    fn encode(
        &self,
        jobs: &[ImageParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Prompted>> {
        let mut known: HashMap<TextKey, Tensor> = HashMap::new();
        let mut texts = Vec::with_capacity(jobs.len());
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let mut wanted = Vec::new();
            for (step, prompt, negative) in params.sayings() {
                // As in the reference, the negative prompt goes through all blocks.
                wanted.push((step, prompt, params.sd.clip_skip));
                wanted.extend(negative.map(|text| (step, text, 0)));
            }
            let chunks = wanted
                .iter()
                .map(|(_, text, _)| self.tokenize(text))
                .collect::<Result<Vec<_>>>()?;
            // They go through the network together, so they must be of one length.
            let count = chunks.iter().map(|chunks| chunks.ids.len()).max();
            let count = count.unwrap_or(1);
            let all = wanted.len() as u32;
            let mut said: Vec<(u32, Said)> = Vec::new();
            for ((i, (step, text, clip_skip)), chunks) in (0..all).zip(wanted).zip(chunks) {
                watch.stage(job, Stage::Encoding, i, all);
                let key = (text.to_owned(), clip_skip, count);
                let tokens = match known.entry(key) {
                    Entry::Occupied(entry) => entry.get().clone(),
                    Entry::Vacant(entry) => {
                        let chunks =
                            chunks.extend_to(count, &self.tokenizer, self.clip.max_tokens())?;
                        let tokens = self.encode_chunks(&chunks, clip_skip)?;
                        entry.insert(tokens).clone()
                    }
                };
                let text = Conditioning {
                    tokens,
                    described: None,
                };
                match said.last_mut() {
                    // The prompt came before.
                    Some((last, said)) if *last == step => said.negative = Some(text),
                    _ => said.push((
                        step,
                        Said {
                            positive: text,
                            negative: None,
                        },
                    )),
                }
            }
            watch.stage(job, Stage::Encoding, all, all);
            timings[job].encoding_ms = milliseconds(start);
            texts.extend(Prompted::new(job, said));
        }
        Ok(texts)
    }

    /// A prompt as the encoder takes it.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Chunks> {
        Chunks::encode(&self.tokenizer, text, self.clip.max_tokens())
    }

    /// The states after the last block, or after an earlier one, with the final norm:
    /// (1, chunks · tokens, width).
    pub(crate) fn encode_chunks(&self, chunks: &Chunks, clip_skip: u32) -> Result<Tensor> {
        let skipped = clip_skip as usize;
        let text = self.clip.forward_before(&chunks.ids, skipped)?;
        let states = match skipped {
            0 => text.last,
            _ => self.clip.normalize(&text.penultimate)?,
        };
        chunks.weigh(&states)
    }

    /// Its text encoder.
    pub(crate) fn clip(&self) -> &ClipEncoder {
        &self.clip
    }
}
