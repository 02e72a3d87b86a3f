//! `rope.cu`: the norm of queries and keys and their rotation.

use candle_core::{DType, Shape, Tensor};

use super::{Argument, Call, Launch, applies, blocks, suffix};
use crate::{Result, layers::rope::HeadPart};

/// Threads of a block at most: eight heads at a time.
const THREADS: usize = 256;

/// Cosines and sines, (tokens, columns) each, f32, and which numbers are a pair.
pub(crate) struct Angles<'a> {
    pub cos: &'a Tensor,
    pub sin: &'a Tensor,
    /// The halves of a head, rather than neighbours.
    pub is_halves: bool,
}

/// Parts of one sequence after another → (batch, all tokens, heads, head size); None where no
/// kernel applies.
pub(crate) fn normalize_and_rotate(
    parts: &[HeadPart],
    heads: usize,
    angles: &Angles,
) -> Result<Option<Tensor>> {
    let Some((batch, width, dtype)) = parts.first().and_then(|part| {
        let (batch, _, width) = part.x.dims3().ok()?;
        Some((batch, width, part.x.dtype()))
    }) else {
        return Ok(None);
    };
    let size = width / heads.max(1);
    let tokens: usize = parts.iter().map(|part| part.x.dims()[1]).sum();
    let columns = angles.cos.dims()[1];
    let suits = |part: &HeadPart| {
        let normalised = part.norm.weight().elem_count();
        let dims = part.x.dims();
        applies(&[angles.cos, angles.sin, part.x, part.norm.weight()])
            && part.x.dtype() == dtype
            && dims.len() == 3
            && (dims[0], dims[2]) == (batch, width)
            && part.x.stride()[2] == 1
            && [size, width].contains(&normalised)
            && part.norm.weight().dtype() == DType::F32
    };
    let (Some(suffix), true) = (suffix(dtype), parts.iter().all(suits)) else {
        return Ok(None);
    };
    if batch * tokens * width == 0
        || size * heads != width
        || !size.is_multiple_of(2)
        || tokens != angles.cos.dims()[0]
        || ![size, width].contains(&(2 * columns))
    {
        return Ok(None);
    }
    let mut launches = Vec::with_capacity(parts.len());
    let mut first_token = 0;
    for part in parts {
        let own_tokens = part.x.dims()[1];
        let is_row_norm = part.norm.weight().elem_count() == width && width != size;
        if own_tokens > 0 {
            launches.push(Launch {
                entry: format!("normalize_and_rotate_{suffix}"),
                grid: blocks(batch * own_tokens)?,
                block: [(heads * 32).min(THREADS) as u32, 1, 1],
                shared_bytes: 0,
                arguments: vec![
                    Argument::In(part.x),
                    Argument::In(part.norm.weight()),
                    Argument::In(angles.cos),
                    Argument::In(angles.sin),
                    Argument::Out(0),
                    Argument::size(own_tokens)?,
                    Argument::size(heads)?,
                    Argument::size(size)?,
                    Argument::size(first_token)?,
                    Argument::size(tokens)?,
                    Argument::size(columns)?,
                    Argument::flag(is_row_norm),
                    Argument::flag(angles.is_halves),
                    Argument::long(part.x.stride()[0]),
                    Argument::long(part.x.stride()[1]),
                    Argument::Float(part.norm.eps() as f32),
                ],
            });
        }
        first_token += own_tokens;
    }
    let call = Call {
        source: "rope",
        outputs: vec![(dtype, Shape::from((batch, tokens, heads, size)))],
        launches,
    };
    Ok(Some(call.run_for_one()?))
}
