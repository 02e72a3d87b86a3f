//! Texts through their encoder, or as they were kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use candle_core::Tensor;
use kinora_core::Stage;

use super::{LtxParams, LtxPipeline, milliseconds};
use crate::{
    Result,
    pipelines::{
        JobTimings, RunWatch,
        text_cache::{KeptTexts, or_none},
    },
    text::{T5Encoder, Tokenizer},
};

impl LtxPipeline {
    /// Every distinct text of the jobs, encoded once if it was not kept.
    pub(super) fn encode(
        &self,
        jobs: &[LtxParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<HashMap<(String, usize), Tensor>> {
        let kept = or_none(self.kept_texts());
        let mut texts = HashMap::new();
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let negative = params.active_guidance().map(|_| &params.negative_prompt);
            let wanted: Vec<&String> = [&params.prompt].into_iter().chain(negative).collect();
            let length = params.text_tokens;
            let mut is_missing = false;
            for text in &wanted {
                if let Entry::Vacant(entry) = texts.entry(((*text).clone(), length)) {
                    match (kept.as_ref()).and_then(|kept| kept.find(text, &[length], ["tokens"])) {
                        Some([tokens]) => {
                            entry.insert(tokens);
                        }
                        None => is_missing = true,
                    }
                }
            }
            if is_missing && !self.text.is_read() {
                watch.stage(job, Stage::Loading, 0, 100);
                self.text.get(&mut |_| {})?;
                watch.stage(job, Stage::Loading, 100, 100);
            }
            let count = wanted.len() as u32;
            for (i, text) in (0u32..).zip(wanted) {
                watch.stage(job, Stage::Encoding, i, count);
                if let Entry::Vacant(entry) = texts.entry((text.clone(), length)) {
                    let encoded = entry.insert(self.encode_text(text, length)?);
                    if let Some(kept) = &kept {
                        kept.keep(text, &[length], &[("tokens", encoded)]);
                    }
                }
            }
            watch.stage(job, Stage::Encoding, count, count);
            timings[job].encoding_ms = milliseconds(start);
        }
        Ok(texts)
    }

    /// The texts that were kept of this model.
    fn kept_texts(&self) -> Result<Option<KeptTexts<'_>>> {
        let Some(cache) = &self.texts else {
            return Ok(None);
        };
        let mut texts = cache.of("LTX-Video", &self.device, self.dtype);
        self.text.sign(&mut texts)?;
        texts.add(self.tokenizer.digest()?.as_bytes());
        Ok(Some(texts))
    }

    /// The embeddings of a text's real tokens, (1, tokens, width). T5 sees the padding; the blocks do
    /// not.
    pub(crate) fn encode_text(&self, text: &str, text_tokens: usize) -> Result<Tensor> {
        let count = self.tokenizer.encode_within(text, text_tokens)?.len();
        let ids = self.tokenizer.encode(text, text_tokens)?;
        let all = self.text.get(&mut |_| {})?.forward(&[ids], None)?;
        Ok(all.narrow(1, 0, count.max(1))?.contiguous()?)
    }

    /// Its text encoder, read if it is not in memory, and tokenizer.
    pub(crate) fn text(&self) -> Result<(&T5Encoder, &Tokenizer)> {
        Ok((self.text.get(&mut |_| {})?, &self.tokenizer))
    }
}
