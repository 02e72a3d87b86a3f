//! Texts through their encoder, or as they were kept.

use candle_core::Tensor;

use super::{LtxParams, LtxPipeline};
use crate::{
    Result,
    pipelines::{
        JobTimings, RunWatch,
        text_cache::{EncodedTexts, KeptTexts, TextEncoding, or_none},
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
    ) -> Result<EncodedTexts<Tensor>> {
        let encoding = TextEncoding {
            kept: or_none(self.kept_texts()),
            is_read: &|| self.text.is_read(),
            read: &|on_load| self.text.get(on_load).map(drop),
            encode: &|text, tokens| self.encode_text(text, tokens),
        };
        let jobs = jobs.iter().map(|params| {
            let is_guided = params.active_guidance().is_some();
            let negative = is_guided.then_some(params.negative_prompt.as_str());
            let texts = [params.prompt.as_str()].into_iter().chain(negative);
            (texts.collect(), params.text_tokens)
        });
        encoding.encode_jobs(jobs, watch, timings)
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
