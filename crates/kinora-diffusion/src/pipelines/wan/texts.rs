//! Texts and given frames through their encoders, or as they were kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use candle_core::Tensor;
use kinora_core::Stage;

use super::{VideoParams, WanPipeline, milliseconds};
use crate::{
    Result,
    denoisers::WanText,
    pipelines::{
        JobTimings, RgbImage, RunWatch,
        text_cache::{KeptTexts, or_none},
    },
    text::{Tokenizer, Umt5Encoder, clean_prompt},
    vision::ClipVision,
};

impl WanPipeline {
    /// Every distinct text of the jobs, encoded once if it was not kept.
    pub(super) fn encode(
        &self,
        jobs: &[VideoParams],
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<HashMap<(String, usize), WanText>> {
        let kept = or_none(self.kept_texts());
        let mut texts = HashMap::new();
        for (job, params) in jobs.iter().enumerate() {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let negative = params.is_guided().then_some(&params.negative_prompt);
            let wanted: Vec<&String> = [&params.prompt].into_iter().chain(negative).collect();
            let length = params.text_tokens;
            let mut is_missing = false;
            for text in &wanted {
                if let Entry::Vacant(entry) = texts.entry(((*text).clone(), length)) {
                    match (kept.as_ref()).and_then(|kept| kept.find(text, &[length], ["tokens"])) {
                        Some([tokens]) => {
                            entry.insert(with_padding(tokens, length)?);
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
                        kept.keep(text, &[length], &[("tokens", &encoded.tokens)]);
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
        let mut texts = cache.of("Wan", &self.device, self.dtype);
        self.text.sign(&mut texts)?;
        texts.add(self.tokenizer.digest()?.as_bytes());
        Ok(Some(texts))
    }

    /// One text. Padding would not be attended to and is replaced by zeros: it is only counted.
    pub(crate) fn encode_text(&self, text: &str, text_tokens: usize) -> Result<WanText> {
        let ids = self
            .tokenizer
            .encode_within(&clean_prompt(text), text_tokens)?;
        let encoder = self.text.get(&mut |_| {})?;
        with_padding(encoder.forward(&[ids], None)?, text_tokens)
    }

    /// Given frames as CLIP sees them, (pictures, rows, width).
    pub(crate) fn embed_images(&self, params: &VideoParams) -> Result<Option<Tensor>> {
        let Some(encoder) = &self.vision else {
            return Ok(None);
        };
        let frames: Vec<&RgbImage> = [&params.first_frame, &params.last_frame]
            .into_iter()
            .flatten()
            .collect();
        let kept = self.texts.as_ref().map(|cache| {
            let mut kept = cache.of("Wan, given frames", &self.device, self.dtype);
            encoder.sign(&mut kept).map(|()| kept)
        });
        let kept = or_none(kept.transpose());
        let pixels: Vec<&[u8]> = frames.iter().map(|frame| frame.rgb.as_slice()).collect();
        let pixels = pixels.concat();
        let numbers: Vec<usize> = frames
            .iter()
            .flat_map(|frame| [frame.width as usize, frame.height as usize])
            .collect();
        if let Some(kept) = &kept
            && let Some([rows]) = kept.find(&pixels, &numbers, ["rows"])
        {
            return Ok(Some(rows));
        }
        let vision = encoder.get(&mut |_| {})?;
        let prepared = frames
            .into_iter()
            .map(|image| vision.prepare(image))
            .collect::<Result<Vec<_>>>()?;
        let rows = vision.forward(&Tensor::cat(&prepared, 0)?)?;
        if let Some(kept) = &kept {
            kept.keep(&pixels, &numbers, &[("rows", &rows)]);
        }
        Ok(Some(rows))
    }

    /// Its text encoder, read if it is not in memory, and tokenizer.
    pub(crate) fn text(&self) -> Result<(&Umt5Encoder, &Tokenizer)> {
        Ok((self.text.get(&mut |_| {})?, &self.tokenizer))
    }

    /// Its picture encoder, read if it is not in memory.
    pub(crate) fn vision(&self) -> Result<Option<&ClipVision>> {
        let vision = self.vision.as_ref();
        vision.map(|vision| vision.get(&mut |_| {})).transpose()
    }
}

/// A text's real tokens, (1, tokens, width), brought to a length.
fn with_padding(tokens: Tensor, length: usize) -> Result<WanText> {
    let padding = length.saturating_sub(tokens.dim(1)?);
    Ok(WanText { tokens, padding })
}
