//! Texts through their encoder and the connectors, or as they were kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use candle_core::Tensor;
use kinora_core::Stage;
use kinora_weights::lora::LoraComponent;

use super::{Ltx2Params, Ltx2Pipeline, milliseconds};
use crate::{
    Result,
    pipelines::{
        JobTimings, RunWatch,
        text_cache::{KeptTexts, or_none},
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
    ) -> Result<HashMap<(String, usize), Ltx2Text>> {
        let kept = or_none(self.kept_texts());
        let mut texts = HashMap::new();
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let negative = params
                .is_guided_by_text()
                .then_some(&params.negative_prompt);
            let wanted: Vec<&String> = [&params.prompt].into_iter().chain(negative).collect();
            let length = params.text_tokens;
            let mut is_missing = false;
            for text in &wanted {
                if let Entry::Vacant(entry) = texts.entry(((*text).clone(), length)) {
                    let parts = ["video", "audio"];
                    match (kept.as_ref()).and_then(|kept| kept.find(text, &[length], parts)) {
                        Some([video, audio]) => {
                            entry.insert(Ltx2Text { video, audio });
                        }
                        None => is_missing = true,
                    }
                }
            }
            if is_missing && !self.text.is_read() {
                watch.stage(job, Stage::Loading, 0, 100);
                self.text.get(&mut |share| {
                    watch.stage(job, Stage::Loading, (share * 100.0) as u32, 100);
                })?;
            }
            let count = wanted.len() as u32;
            for (i, text) in (0u32..).zip(wanted) {
                watch.stage(job, Stage::Encoding, i, count);
                if let Entry::Vacant(entry) = texts.entry((text.clone(), length)) {
                    let encoded = entry.insert(self.encode_text(text, length)?);
                    if let Some(kept) = &kept {
                        let parts = [("video", &encoded.video), ("audio", &encoded.audio)];
                        kept.keep(text, &[length], &parts);
                    }
                }
            }
            watch.stage(job, Stage::Encoding, count, count);
            timings[job].encoding_ms = milliseconds(start);
        }
        Ok(texts)
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
