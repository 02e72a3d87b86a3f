//! Text encoders and their tokenizers: a prompt becomes token ids, ids become embeddings.
//!
//! Not here: which encoder a family uses for what; that is the pipeline's story.

mod cleaning;
pub(crate) mod clip;
mod connectors;
mod emphasis;
mod gemma;
mod sentencepiece;
mod t5;
mod tokenizer;
mod umt5;

pub use cleaning::clean_prompt;
pub use clip::{ClipEncoder, ClipText};
pub use connectors::{Ltx2Connectors, Ltx2Text};
pub use emphasis::Chunks;
pub use gemma::GemmaEncoder;
pub use t5::T5Encoder;
pub use tokenizer::Tokenizer;
pub use umt5::Umt5Encoder;

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Token ids of equally long prompts as a (batch · tokens) vector, checked against the table that
/// they will index.
fn flatten_ids(ids: &[Vec<u32>], vocab: usize, device: &Device) -> Result<(Tensor, usize)> {
    let tokens = ids.first().map_or(0, Vec::len);
    if tokens == 0 || ids.iter().any(|ids| ids.len() != tokens) {
        return Err(Error::Shape(
            "prompts of one batch must have the same number of tokens, at least one".to_owned(),
        ));
    }
    let flat = ids.concat();
    if let Some(id) = flat.iter().find(|id| **id as usize >= vocab) {
        return Err(Error::Shape(format!(
            "the tokenizer gives the token {id}, the text encoder knows {vocab}"
        )));
    }
    Ok((Tensor::new(flat, device)?, tokens))
}

/// Rows of a token table, (vocabulary, width), as (batch, tokens, width) in the network's format.
fn look_up(table: &Tensor, ids: &Tensor, tokens: usize, dtype: DType) -> Result<Tensor> {
    let rows = table.index_select(ids, 0)?.to_dtype(dtype)?;
    let (count, width) = rows.dims2()?;
    Ok(rows.reshape((count / tokens, tokens, width))?)
}
