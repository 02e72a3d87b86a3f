//! Texts and given frames through their encoders, or as they were kept.

use candle_core::Tensor;

use super::{VideoParams, WanPipeline};
use crate::{
    Result,
    denoisers::WanText,
    pipelines::{
        JobTimings, RgbImage, RunWatch,
        text_cache::{EncodedTexts, KeepText, KeptTexts, TextEncoding, or_none},
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
    ) -> Result<EncodedTexts<WanText>> {
        let encoding = TextEncoding {
            kept: or_none(self.kept_texts()),
            is_read: &|| self.text.is_read(),
            read: &|on_load| self.text.get(on_load).map(drop),
            encode: &|text, tokens| self.encode_text(text, tokens),
        };
        let jobs = jobs.iter().map(|params| {
            let negative = (params.is_guided()).then_some(params.negative_prompt.as_str());
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
        let tokens = encoder.forward(&[ids], None)?;
        Ok(WanText::from_parts([tokens], &[text_tokens]))
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

impl KeepText<1> for WanText {
    const PARTS: [&'static str; 1] = ["tokens"];

    fn parts(&self) -> [&Tensor; 1] {
        [&self.tokens]
    }

    /// Real tokens, (1, tokens, width), brought to the length that is the first number.
    fn from_parts([tokens]: [Tensor; 1], numbers: &[usize]) -> Self {
        let real = tokens.dims().get(1).copied().unwrap_or_default();
        let length = numbers.first().copied().unwrap_or_default();
        let padding = length.saturating_sub(real);
        Self { tokens, padding }
    }
}
