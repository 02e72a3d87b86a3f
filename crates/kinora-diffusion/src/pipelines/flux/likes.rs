//! Pictures that the new one shall be like: tokens of theirs behind those of the text, all weighted
//! and added up. After `diffusers/pipelines/flux/pipeline_flux_prior_redux.py`.

use candle_core::{DType, Tensor};

use super::{FluxPipeline, ImageParams, RgbImage, rows::Conditioning};
use crate::{Error, Result, pipelines::text_cache::EncodedTexts};

/// What the jobs of a run say and show, each once.
#[derive(Debug, Default)]
pub(crate) struct Encoded<'a> {
    /// By text and its length in tokens.
    pub texts: EncodedTexts<Conditioning>,
    /// Pictures with their tokens, (1, tokens, T5's width).
    pub pictures: Vec<(&'a RgbImage, Tensor)>,
}

impl Encoded<'_> {
    pub fn text(&self, text: &str, tokens: usize) -> Option<Conditioning> {
        self.texts.get(text, &[tokens])
    }

    pub fn picture(&self, image: &RgbImage) -> Option<&Tensor> {
        let mut known = self.pictures.iter();
        known
            .find(|(other, _)| *other == image)
            .map(|(_, tokens)| tokens)
    }
}

/// Whether the prompt is encoded. Beside pictures an empty one is not: as the reference runs without
/// text encoders, and as its authors show it.
pub(crate) fn has_text(params: &ImageParams) -> bool {
    params.flux.likes.is_empty() || !params.prompt.trim().is_empty()
}

impl FluxPipeline {
    /// Tokens of a picture, (1, tokens, T5's width).
    pub(crate) fn encode_picture(&self, image: &RgbImage) -> Result<Tensor> {
        match self.redux() {
            Some(redux) => redux.encode(image),
            None => Err(Error::BadRequest(
                "this model takes no picture that the new one shall be like".to_owned(),
            )),
        }
    }

    /// What a job says and shows. None: something of it was not encoded.
    pub(crate) fn condition(
        &self,
        params: &ImageParams,
        encoded: &Encoded<'_>,
    ) -> Result<Option<Conditioning>> {
        let text = match has_text(params) {
            true => encoded.text(&params.prompt, params.text_tokens),
            false => Some(self.silence(params.text_tokens)?),
        };
        let Some(text) = text else {
            return Ok(None);
        };
        let mut seen = Vec::with_capacity(params.flux.likes.len());
        for like in &params.flux.likes {
            match encoded.picture(&like.image) {
                Some(tokens) => seen.push((tokens, like.weight, like.pooled_weight)),
                None => return Ok(None),
            }
        }
        join(&text, &seen).map(Some)
    }

    /// Zeros in place of a text.
    fn silence(&self, text_tokens: usize) -> Result<Conditioning> {
        let config = &self.parts().transformer;
        let tokens = (1, text_tokens, config.joint_dim);
        Ok(Conditioning {
            tokens: Tensor::zeros(tokens, self.dtype, &self.device)?,
            pooled: Tensor::zeros((1, config.pooled_dim), self.dtype, &self.device)?,
        })
    }
}

/// For each picture the text with the picture's tokens behind it, times its weight; their sum. The
/// text counts as often as there are pictures, as in the reference.
pub(crate) fn join(text: &Conditioning, seen: &[(&Tensor, f32, f32)]) -> Result<Conditioning> {
    let mut sum: Option<Conditioning> = None;
    for (tokens, weight, pooled_weight) in seen {
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let part = Conditioning {
            tokens: Tensor::cat(&[wide(&text.tokens)?, wide(tokens)?], 1)?
                .affine(f64::from(*weight), 0.0)?,
            pooled: wide(&text.pooled)?.affine(f64::from(*pooled_weight), 0.0)?,
        };
        sum = Some(match sum {
            None => part,
            Some(sum) => Conditioning {
                tokens: (sum.tokens + part.tokens)?,
                pooled: (sum.pooled + part.pooled)?,
            },
        });
    }
    let Some(sum) = sum else {
        return Ok(text.clone());
    };
    Ok(Conditioning {
        tokens: sum.tokens.to_dtype(text.tokens.dtype())?,
        pooled: sum.pooled.to_dtype(text.pooled.dtype())?,
    })
}
