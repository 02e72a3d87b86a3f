//! Texts through both encoders, or as they were kept, and pictures that the new one shall be like.

use std::time::Instant;

use candle_core::Tensor;
use kinora_core::Stage;

use super::{
    ENCODERS, FluxPipeline,
    likes::{self, Encoded},
    milliseconds,
    rows::Conditioning,
};
use crate::{
    Result,
    pipelines::{
        ImageParams, JobTimings, RunWatch,
        text_cache::{KeepText, KeptTexts, TextEncoding, or_none},
    },
    text::{ClipEncoder, T5Encoder},
};

impl FluxPipeline {
    /// Every distinct text and picture of the jobs, encoded once; texts that were kept are not.
    pub(super) fn encode<'a>(
        &self,
        jobs: &'a [ImageParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<Encoded<'a>> {
        let encoding = TextEncoding {
            kept: or_none(self.kept_texts()),
            is_read: &|| self.clip.is_read() && self.t5.is_read(),
            read: &|on_load| {
                self.encoders()?;
                on_load(1.0);
                Ok(())
            },
            encode: &|text, tokens| self.encode_text(text, tokens),
        };
        let mut encoded = Encoded::default();
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let negative = params.active_cfg().map(|_| params.negative_prompt.as_str());
            let positive = likes::has_text(params).then_some(params.prompt.as_str());
            let texts: Vec<&str> = positive.into_iter().chain(negative).collect();
            let count = (texts.len() + params.flux.likes.len()) as u32;
            let wanted = (&texts[..], params.text_tokens);
            encoding.encode_job(&mut encoded.texts, job, wanted, count, watch)?;
            for (done, like) in (texts.len() as u32..).zip(&params.flux.likes) {
                watch.stage(job, Stage::Encoding, done, count);
                if encoded.picture(&like.image).is_none() {
                    let tokens = self.encode_picture(&like.image)?;
                    encoded.pictures.push((&like.image, tokens));
                }
            }
            watch.stage(job, Stage::Encoding, count, count);
            timings[job].encoding_ms = milliseconds(start);
        }
        Ok(encoded)
    }

    /// The texts that were kept of this model as it is now.
    fn kept_texts(&self) -> Result<Option<KeptTexts<'_>>> {
        let Some(cache) = &self.texts else {
            return Ok(None);
        };
        let mut texts = cache.of("FLUX.1", &self.device, self.dtype);
        self.clip.sign(&mut texts)?;
        self.t5.sign(&mut texts)?;
        for tokenizer in [&self.clip_tokenizer, &self.t5_tokenizer] {
            texts.add(tokenizer.digest()?.as_bytes());
        }
        texts.add_adapters(&self.adapted, &ENCODERS)?;
        Ok(Some(texts))
    }

    /// Its text encoders, read if they are not in memory.
    pub(crate) fn encoders(&self) -> Result<(&ClipEncoder, &T5Encoder)> {
        let [clip, t5] = ENCODERS;
        Ok((
            self.clip.get_adapted(clip, &self.adapted, &mut |_| {})?,
            self.t5.get_adapted(t5, &self.adapted, &mut |_| {})?,
        ))
    }

    /// One text through both encoders.
    pub(crate) fn encode_text(&self, text: &str, text_tokens: usize) -> Result<Conditioning> {
        let (clip, t5) = self.encoders()?;
        let (clip_ids, t5_ids) = self.tokenize(text, text_tokens)?;
        Ok(Conditioning {
            pooled: clip.forward(&[clip_ids])?.pooled,
            // FLUX.1 attends to the padding: no lengths.
            tokens: t5.forward(&[t5_ids], None)?,
        })
    }

    /// Ids for CLIP and for T5.
    pub(crate) fn tokenize(&self, text: &str, text_tokens: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        Ok((
            (self.clip_tokenizer).encode(text, self.parts.clip.max_positions)?,
            self.t5_tokenizer.encode(text, text_tokens)?,
        ))
    }
}

impl KeepText<2> for Conditioning {
    const PARTS: [&'static str; 2] = ["tokens", "pooled"];

    fn parts(&self) -> [&Tensor; 2] {
        [&self.tokens, &self.pooled]
    }

    fn from_parts([tokens, pooled]: [Tensor; 2], _: &[usize]) -> Self {
        Self { tokens, pooled }
    }
}
