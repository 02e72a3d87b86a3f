//! The stages of FLUX.1 Redux before the network: pictures as the vision encoder gets them, what it
//! sees, their tokens, the text, and everything together.

use candle_core::Tensor;

use super::{GATE_NETWORK, GATE_SIGMAS, Report};
use crate::{
    Result,
    pipelines::{FluxPipeline, ImageParams, flux::likes},
    vision::Redux,
};

impl Report {
    /// Pictures and texts up to what the denoiser is given.
    pub(super) fn compare_likes(
        &mut self,
        pipeline: &FluxPipeline,
        redux: &Redux,
        jobs: &[ImageParams],
    ) -> Result<()> {
        let Some(job) = jobs.first() else {
            return Ok(());
        };
        let pictures = &job.flux.likes;
        let pixels = pictures
            .iter()
            .map(|like| redux.vision.prepare(&like.image))
            .collect::<Result<Vec<_>>>()?;
        // To the last bit, but for the order of a subtraction and a division.
        self.compare(
            "image_encoder.call0.in.pixel_values",
            "",
            &Tensor::cat(&pixels, 0)?,
            GATE_SIGMAS,
        )?;
        let seen = pixels
            .iter()
            .map(|pixels| redux.vision.forward(pixels))
            .collect::<Result<Vec<_>>>()?;
        let seen = Tensor::cat(&seen, 0)?;
        let tokens = redux.embedder.forward(&seen)?;
        for (stage, ours) in [
            ("image_encoder.call0.last_hidden_state", &seen),
            ("image_embedder.call0.image_embeds", &tokens),
        ] {
            self.compare(stage, "", ours, GATE_NETWORK)?;
        }
        if likes::has_text(job) {
            self.compare_repeated_text(pipeline, job)?;
        }
        let mut encoded = likes::Encoded::default();
        for like in pictures {
            let tokens = pipeline.encode_picture(&like.image)?;
            encoded.pictures.push((&like.image, tokens));
        }
        let text = pipeline.encode_text(&job.prompt, job.text_tokens)?;
        encoded.texts.insert(&job.prompt, &[job.text_tokens], text);
        let Some(all) = pipeline.condition(job, &encoded)? else {
            return Ok(());
        };
        self.compare("prior.prompt_embeds", "", &all.tokens, GATE_NETWORK)?;
        self.compare("prior.pooled_prompt_embeds", "", &all.pooled, GATE_NETWORK)?;
        if job.active_cfg().is_some() {
            let text = pipeline.encode_text(&job.negative_prompt, job.text_tokens)?;
            self.compare("encode_prompt1.0", "", &text.tokens, GATE_NETWORK)?;
            self.compare("encode_prompt1.1", "", &text.pooled, GATE_NETWORK)?;
        }
        Ok(())
    }

    /// The reference encodes the prompt once for each picture.
    fn compare_repeated_text(&mut self, pipeline: &FluxPipeline, job: &ImageParams) -> Result<()> {
        let times = job.flux.likes.len();
        let (clip_ids, t5_ids) = pipeline.tokenize(&job.prompt, job.text_tokens)?;
        for (encoder, ids) in [("text_encoder", &clip_ids), ("text_encoder_2", &t5_ids)] {
            let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            self.compare_integers(
                &format!("{encoder}.call0.in.input_ids"),
                "",
                &ids.repeat(times),
                0,
            )?;
        }
        let (clip, t5) = pipeline.encoders()?;
        let short = clip.forward(&vec![clip_ids; times])?;
        let long = t5.forward(&vec![t5_ids; times], None)?;
        for (stage, ours) in [
            ("text_encoder.call0.last_hidden_state", &short.last),
            ("text_encoder.call0.pooler_output", &short.pooled),
            ("text_encoder_2.call0.last_hidden_state", &long),
        ] {
            self.compare(stage, "", ours, GATE_NETWORK)?;
        }
        Ok(())
    }
}
