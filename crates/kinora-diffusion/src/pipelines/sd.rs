//! Pictures with Stable Diffusion 1.x and 2.x: one text encoder, a UNet, a VAE. From text, from a
//! picture, or inside of a mask.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use candle_core::{DType, Device, Tensor};
use kinora_core::Stage;
use kinora_weights::{
    Component, ModelLayout,
    lora::{LoraComponent, LoraTargets},
};

use super::{
    ImageParams, JobTimings, RunLimits, RunWatch, Shelf, TextCache, milliseconds,
    on_demand::OnDemand,
    text_cache::{EncodedTexts, KeptTexts, or_none, read_for},
    unet::{
        UnetStage, open_tokenizer,
        rows::{Conditioning, Prompted, Said},
    },
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    text::{Chunks, ClipEncoder, Tokenizer},
};

/// A Stable Diffusion model with its weights in memory; those of the text encoder when they were
/// needed.
pub struct SdPipeline {
    tokenizer: Tokenizer,
    /// Longest prompt of one chunk.
    max_tokens: usize,
    clip: OnDemand<ClipEncoder>,
    texts: Option<Arc<TextCache>>,
    stage: UnetStage,
}

impl std::fmt::Debug for SdPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SdPipeline({})", self.stage.files())
    }
}

impl Adaptive for SdPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let mut networks = vec![self.stage.adaptable_unet()];
        networks.extend(self.clip.adaptable(LoraComponent::TextEncoder));
        networks
    }

    fn unread(&self) -> Result<Vec<(LoraComponent, BTreeSet<String>)>> {
        let tensors = self.clip.unread_tensors()?;
        let named = tensors.map(|tensors| (LoraComponent::TextEncoder, tensors));
        Ok(named.into_iter().collect())
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        self.stage.read_targets()
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.stage.adapted
    }
}

impl SdPipeline {
    /// Reads every weight but those of the text encoder. `on_load` is told the share that is done, 0
    /// to 1.
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
        let own = config.clone();
        let clip = OnDemand::new(
            "CLIP",
            layout.open(Component::TextEncoder)?,
            (device, dtype),
            config,
            move |weights, _| ClipEncoder::load(weights, &own),
        );
        Ok(Self {
            tokenizer: open_tokenizer(layout, "tokenizer", config)?,
            max_tokens: config.max_positions,
            clip,
            texts: None,
            stage: UnetStage::open(layout, parts, (device, dtype), on_load)?,
        })
    }

    /// Keeps what is encoded, and looks there before anything is.
    pub fn keep_texts(&mut self, cache: Arc<TextCache>) {
        self.texts = Some(cache);
    }

    /// Has its encoders in memory together with other models.
    pub fn share_encoders(&mut self, shelf: &Arc<Shelf>) {
        self.clip.share(shelf);
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

    /// Every distinct text of the jobs, encoded once if it was not kept.
    fn encode(
        &self,
        jobs: &[ImageParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Prompted>> {
        let kept = or_none(self.kept_texts());
        let mut known: EncodedTexts<Tensor> = EncodedTexts::default();
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
            let mut is_missing = false;
            for (_, text, clip_skip) in &wanted {
                is_missing |= !known.find(kept.as_ref(), text, &[*clip_skip as usize, count]);
            }
            if is_missing && !self.clip.is_read() {
                read_for(job, watch, |on_load| {
                    self.clip()?;
                    on_load(1.0);
                    Ok(())
                })?;
            }
            let all = wanted.len() as u32;
            let mut said: Vec<(u32, Said)> = Vec::new();
            for ((i, (step, text, clip_skip)), chunks) in (0..all).zip(wanted).zip(chunks) {
                watch.stage(job, Stage::Encoding, i, all);
                let numbers = [clip_skip as usize, count];
                let tokens = known.get_or_encode(kept.as_ref(), text, &numbers, || {
                    let chunks = chunks.extend_to(count, &self.tokenizer, self.max_tokens)?;
                    self.encode_chunks(&chunks, clip_skip)
                })?;
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

    /// The texts that were kept of this model as it is now.
    fn kept_texts(&self) -> Result<Option<KeptTexts<'_>>> {
        let Some(cache) = &self.texts else {
            return Ok(None);
        };
        let (device, dtype) = self.stage.computes_in();
        let mut texts = cache.of("Stable Diffusion", device, dtype);
        self.clip.sign(&mut texts)?;
        texts.add(self.tokenizer.digest()?.as_bytes());
        texts.add_adapters(&self.stage.adapted, &[LoraComponent::TextEncoder])?;
        Ok(Some(texts))
    }

    /// A prompt as the encoder takes it.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Chunks> {
        Chunks::encode(&self.tokenizer, text, self.max_tokens)
    }

    /// The states after the last block, or after an earlier one, with the final norm:
    /// (1, chunks · tokens, width).
    pub(crate) fn encode_chunks(&self, chunks: &Chunks, clip_skip: u32) -> Result<Tensor> {
        let skipped = clip_skip as usize;
        let clip = self.clip()?;
        let text = clip.forward_before(&chunks.ids, skipped)?;
        let states = match skipped {
            0 => text.last,
            _ => clip.normalize(&text.penultimate)?,
        };
        chunks.weigh(&states)
    }

    /// Its text encoder, read if it is not in memory.
    pub(crate) fn clip(&self) -> Result<&ClipEncoder> {
        let component = LoraComponent::TextEncoder;
        (self.clip).get_adapted(component, &self.stage.adapted, &mut |_| {})
    }
}
