//! Pictures with Stable Diffusion XL: two text encoders side by side (the refiner has the second
//! alone), a UNet that is told sizes, a VAE. From text, from a picture, inside of a mask, or on from
//! the latents of another run.

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
    params::PretendedSizes,
    text_cache::{EncodedTexts, KeepText, KeptTexts, or_none, read_for},
    unet::{
        UnetStage, open_tokenizer,
        rows::{Conditioning, Prompted, Said},
    },
};
use crate::{
    Error, Result,
    adapters::{AdaptableNetwork, Adapted, Adaptive},
    text::{Chunks, ClipEncoder, ClipText, Tokenizer},
};

/// What the refiner is told when nothing else is said: the reference's defaults.
const AESTHETIC_SCORES: (f32, f32) = (6.0, 2.5);

/// A text encoder with its tokenizer.
struct Side {
    tokenizer: Tokenizer,
    /// Longest prompt of one chunk.
    max_tokens: usize,
    clip: OnDemand<ClipEncoder>,
    component: LoraComponent,
}

impl Side {
    fn tokenize(&self, text: &str) -> Result<Chunks> {
        Chunks::encode(&self.tokenizer, text, self.max_tokens)
    }
}

/// An SDXL model, base or refiner, with its weights in memory; those of the text encoders when they
/// were needed.
pub struct SdxlPipeline {
    /// None in the refiner.
    first: Option<Side>,
    second: Side,
    texts: Option<Arc<TextCache>>,
    stage: UnetStage,
    zeroes_empty_negative: bool,
    takes_aesthetic_score: bool,
}

impl std::fmt::Debug for SdxlPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SdxlPipeline({})", self.stage.files())
    }
}

/// A text through both encoders.
#[derive(Clone, Debug)]
pub(crate) struct EncodedText {
    /// (1, tokens, both widths)
    pub tokens: Tensor,
    /// The second encoder's, projected: (1, width).
    pub pooled: Tensor,
}

impl EncodedText {
    fn zeros_like(&self) -> Result<Self> {
        Ok(Self {
            tokens: self.tokens.zeros_like()?,
            pooled: self.pooled.zeros_like()?,
        })
    }
}

/// A text's chunks for each encoder.
pub(crate) type SideChunks = (Option<Chunks>, Chunks);

impl KeepText<2> for EncodedText {
    const PARTS: [&'static str; 2] = ["tokens", "pooled"];

    fn parts(&self) -> [&Tensor; 2] {
        [&self.tokens, &self.pooled]
    }

    fn from_parts([tokens, pooled]: [Tensor; 2], _: &[usize]) -> Self {
        Self { tokens, pooled }
    }
}

impl Adaptive for SdxlPipeline {
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let mut networks = vec![self.stage.adaptable_unet()];
        let sides = self.first.iter_mut().chain([&mut self.second]);
        networks.extend(sides.filter_map(|side| side.clip.adaptable(side.component)));
        networks
    }

    fn unread(&self) -> Result<Vec<(LoraComponent, BTreeSet<String>)>> {
        let mut unread = Vec::new();
        for side in self.sides() {
            let tensors = side.clip.unread_tensors()?;
            unread.extend(tensors.map(|tensors| (side.component, tensors)));
        }
        Ok(unread)
    }

    fn read_targets(&self) -> Result<LoraTargets> {
        self.stage.read_targets()
    }

    fn adapted(&mut self) -> &mut Adapted {
        &mut self.stage.adapted
    }
}

/// What a prompt is held against.
enum Negative<'a> {
    /// Nothing: it is not guided.
    None,
    /// Zeros, which XL takes for an empty text.
    Zeros,
    Text(&'a str, SideChunks),
}

impl SdxlPipeline {
    /// Reads every weight but those of the text encoders. `on_load` is told the share that is done, 0
    /// to 1.
    pub fn open(
        layout: &ModelLayout,
        device: &Device,
        dtype: DType,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let Some((parts, config)) = layout
            .sd()
            .and_then(|parts| Some((parts, parts.clip_2.as_ref()?)))
        else {
            let reason = "it is not a Stable Diffusion XL model";
            return Err(Error::bad_weights(&layout.root, reason));
        };
        let first = parts
            .clip
            .as_ref()
            .map(|config| {
                let own = config.clone();
                Ok::<_, Error>(Side {
                    clip: OnDemand::new(
                        "CLIP",
                        layout.open(Component::TextEncoder)?,
                        (device, dtype),
                        config,
                        move |weights, _| ClipEncoder::load(weights, &own),
                    ),
                    tokenizer: open_tokenizer(layout, "tokenizer", config)?,
                    max_tokens: config.max_positions,
                    component: LoraComponent::TextEncoder,
                })
            })
            .transpose()?;
        let own = config.clone();
        let second = Side {
            clip: OnDemand::new(
                "OpenCLIP",
                layout.open(Component::TextEncoder2)?,
                (device, dtype),
                config,
                move |weights, _| ClipEncoder::load_projected(weights, &own.config, own.projection),
            ),
            tokenizer: open_tokenizer(layout, "tokenizer_2", &config.config)?,
            max_tokens: config.config.max_positions,
            component: LoraComponent::TextEncoder2,
        };
        Ok(Self {
            first,
            second,
            texts: None,
            stage: UnetStage::open(layout, parts, (device, dtype), on_load)?,
            zeroes_empty_negative: parts.zeroes_empty_negative,
            takes_aesthetic_score: parts.takes_aesthetic_score,
        })
    }

    /// Keeps what is encoded, and looks there before anything is.
    pub fn keep_texts(&mut self, cache: Arc<TextCache>) {
        self.texts = Some(cache);
    }

    /// Has its encoders in memory together with other models.
    pub fn share_encoders(&mut self, shelf: &Arc<Shelf>) {
        if let Some(first) = &mut self.first {
            first.clip.share(shelf);
        }
        self.second.clip.share(shelf);
    }

    /// Its text encoders with their tokenizers.
    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.first.iter().chain([&self.second])
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

    /// Every distinct text of the jobs, encoded once if it was not kept, with each job's sizes.
    fn encode(
        &self,
        jobs: &[ImageParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Vec<Prompted>> {
        let kept = or_none(self.kept_texts());
        let mut known: EncodedTexts<EncodedText> = EncodedTexts::default();
        let mut texts = Vec::with_capacity(jobs.len());
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let is_zero = |text: &str| self.zeroes_empty_negative && text.is_empty();
            let mut wanted = Vec::new();
            for (step, prompt, negative) in params.sayings() {
                let positive = (prompt, self.tokenize(prompt)?);
                let negative = match negative {
                    None => Negative::None,
                    Some(text) if is_zero(text) => Negative::Zeros,
                    Some(text) => Negative::Text(text, self.tokenize(text)?),
                };
                wanted.push((step, positive, negative));
            }
            // They go through the network together, so they must be of one length.
            let count = wanted.iter().flat_map(|(_, (_, chunks), negative)| {
                let negative = match negative {
                    Negative::Text(_, chunks) => Some(count_chunks(chunks)),
                    Negative::None | Negative::Zeros => None,
                };
                [Some(count_chunks(chunks)), negative]
            });
            let count = count.flatten().max().unwrap_or(1);
            let mut is_missing = false;
            for (_, (text, _), negative) in &wanted {
                let negative = match negative {
                    Negative::Text(text, _) => Some((*text, 0)),
                    Negative::None | Negative::Zeros => None,
                };
                for (text, clip_skip) in [Some((*text, params.sd.clip_skip)), negative]
                    .into_iter()
                    .flatten()
                {
                    let numbers = [clip_skip as usize, count];
                    is_missing |= !known.find(kept.as_ref(), text, &numbers);
                }
            }
            if is_missing && self.sides().any(|side| !side.clip.is_read()) {
                read_for(job, watch, |on_load| {
                    self.encoders()?;
                    on_load(1.0);
                    Ok(())
                })?;
            }
            let mut encode = |text: &str, chunks, clip_skip: u32| {
                let numbers = [clip_skip as usize, count];
                known.get_or_encode(kept.as_ref(), text, &numbers, || {
                    self.encode_chunks(&self.extend(chunks, count)?, clip_skip)
                })
            };
            let describe = |text: EncodedText, sizes: &[f32]| -> Result<Conditioning> {
                let described = self
                    .stage
                    .unet()
                    .describe(&text.pooled, &[sizes.to_vec()])?;
                Ok(Conditioning {
                    tokens: text.tokens,
                    described: Some(described),
                })
            };
            let (sizes, negative_sizes) = self.sizes(params);
            let all = wanted.len() as u32;
            let mut said = Vec::with_capacity(wanted.len());
            for (i, (step, (text, chunks), negative)) in (0..all).zip(wanted) {
                watch.stage(job, Stage::Encoding, i, all);
                let positive = encode(text, chunks, params.sd.clip_skip)?;
                let negative = match negative {
                    Negative::None => None,
                    Negative::Zeros => Some(positive.zeros_like()?),
                    // As in the reference, it goes through all blocks but the last.
                    Negative::Text(text, chunks) => Some(encode(text, chunks, 0)?),
                };
                let negative = negative.map(|text| describe(text, &negative_sizes));
                let said_now = Said {
                    positive: describe(positive, &sizes)?,
                    negative: negative.transpose()?,
                };
                said.push((step, said_now));
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
        let mut texts = cache.of("Stable Diffusion XL", device, dtype);
        let mut components = Vec::new();
        for side in self.sides() {
            side.clip.sign(&mut texts)?;
            texts.add(side.tokenizer.digest()?.as_bytes());
            components.push(side.component);
        }
        texts.add_adapters(&self.stage.adapted, &components)?;
        Ok(Some(texts))
    }

    /// A prompt as the encoders take it.
    pub(crate) fn tokenize(&self, text: &str) -> Result<SideChunks> {
        let first = self.first.as_ref().map(|side| side.tokenize(text));
        Ok((first.transpose()?, self.second.tokenize(text)?))
    }

    fn extend(&self, (first, second): SideChunks, count: usize) -> Result<SideChunks> {
        let extend =
            |side: &Side, chunks: Chunks| chunks.extend_to(count, &side.tokenizer, side.max_tokens);
        let first = match (&self.first, first) {
            (Some(side), Some(chunks)) => Some(extend(side, chunks)?),
            _ => None,
        };
        Ok((first, extend(&self.second, second)?))
    }

    /// The states before the last block of both encoders, and the pooled state of the first chunk.
    pub(crate) fn encode_chunks(
        &self,
        (first, second): &SideChunks,
        clip_skip: u32,
    ) -> Result<EncodedText> {
        // Without the norm behind the last block, which never saw these.
        let encode = |side: &Side, chunks: &Chunks| -> Result<(Tensor, ClipText)> {
            let skipped = 1 + clip_skip as usize;
            let text = self.clip_of(side)?.forward_before(&chunks.ids, skipped)?;
            Ok((chunks.weigh(&text.penultimate)?, text))
        };
        let (states, text) = encode(&self.second, second)?;
        let tokens = match (&self.first, first) {
            (Some(side), Some(chunks)) => Tensor::cat(&[&encode(side, chunks)?.0, &states], 2)?,
            _ => states,
        };
        let Some(projected) = text.projected else {
            return Err(Error::Shape("the second encoder has no projection".into()));
        };
        Ok(EncodedText {
            tokens,
            pooled: projected.narrow(0, 0, 1)?,
        })
    }

    /// What the network is told about the picture's making, with the prompt and without it.
    fn sizes(&self, params: &ImageParams) -> (Vec<f32>, Vec<f32>) {
        let own = PretendedSizes {
            original: (params.height, params.width),
            crop: (0, 0),
            target: (params.height, params.width),
        };
        let sizes = params.sd.sizes.unwrap_or(own);
        let negative = params.sd.negative_sizes.unwrap_or(sizes);
        let scores = params.sd.aesthetic_scores.unwrap_or(AESTHETIC_SCORES);
        let list = |sizes: PretendedSizes, score: f32| {
            let PretendedSizes {
                original,
                crop,
                target,
            } = sizes;
            let mut numbers = vec![original.0, original.1, crop.0, crop.1];
            if !self.takes_aesthetic_score {
                numbers.extend([target.0, target.1]);
            }
            let mut list: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
            if self.takes_aesthetic_score {
                list.push(score);
            }
            list
        };
        (list(sizes, scores.0), list(negative, scores.1))
    }

    fn clip_of<'a>(&self, side: &'a Side) -> Result<&'a ClipEncoder> {
        (side.clip).get_adapted(side.component, &self.stage.adapted, &mut |_| {})
    }

    /// Its text encoders, read if they are not in memory; the refiner has the second alone.
    pub(crate) fn encoders(&self) -> Result<(Option<&ClipEncoder>, &ClipEncoder)> {
        let first = self.first.as_ref().map(|side| self.clip_of(side));
        Ok((first.transpose()?, self.clip_of(&self.second)?))
    }
}

fn count_chunks((first, second): &SideChunks) -> usize {
    let first = first.as_ref().map_or(0, |chunks| chunks.ids.len());
    first.max(second.ids.len())
}
