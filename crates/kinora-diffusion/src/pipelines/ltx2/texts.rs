//! Texts through their encoder and the connectors, or as they were kept.

use candle_core::Tensor;
use kinora_weights::lora::LoraComponent;

use super::{Ltx2Params, Ltx2Pipeline};
use crate::{
    Result,
    pipelines::{
        JobTimings, RunWatch,
        text_cache::{EncodedTexts, KeepText, KeptTexts, TextEncoding, or_none},
    },
    text::{Ltx2Connectors, Ltx2Text, Tokenizer},
};

impl Ltx2Pipeline {
    /// Every distinct text of the jobs, encoded once if it was not kept.
    pub(super) fn encode(
        &self,
        jobs: &[Ltx2Params],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<EncodedTexts<Ltx2Text>> {
        let encoding = TextEncoding {
            kept: or_none(self.kept_texts()),
            is_read: &|| self.text.is_read(),
            read: &|on_load| self.text.get(on_load).map(drop),
            encode: &|text, tokens| self.encode_text(text, tokens),
        };
        let jobs = jobs.iter().map(|params| {
            let negative = (params.is_guided_by_text()).then_some(params.negative_prompt.as_str());
            let texts = [params.prompt.as_str()].into_iter().chain(negative);
            (texts.collect(), params.text_tokens)
        });
        encoding.encode_jobs(jobs, watch, timings)
    }

    /// The texts that were kept of this model as it is now.
    fn kept_texts(&self) -> Result<Option<KeptTexts<'_>>> {
        let Some(cache) = &self.texts else {
            return Ok(None);
        };
        let mut texts = cache.of("LTX-2", &self.device, self.dtype);
        self.text.sign(&mut texts)?;
        texts.add(self.tokenizer.digest()?.as_bytes());
        texts.add(format!("{:?}", self.parts.connectors).as_bytes());
        for file in &self.connector_files {
            texts.add_file(file)?;
        }
        texts.add_adapters(&self.adapted, &[LoraComponent::Connectors])?;
        Ok(Some(texts))
    }

    /// A text for the picture and for the sound.
    pub(crate) fn encode_text(&self, text: &str, text_tokens: usize) -> Result<Ltx2Text> {
        let states = self.read_text(text, text_tokens)?;
        self.connectors.forward(&states, text_tokens)
    }

    /// What every layer of the text encoder says of a text's real tokens.
    pub(crate) fn read_text(&self, text: &str, text_tokens: usize) -> Result<Vec<Tensor>> {
        let ids = self.tokenizer.encode_cut(text.trim(), text_tokens)?;
        // Padding stands before the tokens.
        let encoder = self.text.get(&mut |_| {})?;
        encoder.forward(&ids, text_tokens - ids.len())
    }

    /// Its connectors and tokenizer.
    pub(crate) fn text(&self) -> (&Ltx2Connectors, &Tokenizer) {
        (&self.connectors, &self.tokenizer)
    }
}

impl KeepText<2> for Ltx2Text {
    const PARTS: [&'static str; 2] = ["video", "audio"];

    fn parts(&self) -> [&Tensor; 2] {
        [&self.video, &self.audio]
    }

    fn from_parts([video, audio]: [Tensor; 2], _: &[usize]) -> Self {
        Self { video, audio }
    }
}
