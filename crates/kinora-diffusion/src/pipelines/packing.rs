//! Latents as tokens: each 2×2 patch of latents becomes one token, channel by channel.

use candle_core::Tensor;

use crate::Result;

/// (batch, channels, height, width) → (batch, height/2 · width/2, channels · 4); number
/// `c·4 + 2·dy + dx` of a token is channel `c` at (dy, dx) of its patch.
pub fn pack(latents: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = latents.dims4()?;
    Ok(latents
        .reshape(&[batch, channels, height / 2, 2, width / 2, 2][..])?
        .permute([0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((batch, (height / 2) * (width / 2), channels * 4))?)
}

/// The inverse of [`pack`] for a picture of `rows` × `columns` tokens.
pub fn unpack(tokens: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let (batch, _, width) = tokens.dims3()?;
    let channels = width / 4;
    Ok(tokens
        .reshape(&[batch, rows, columns, channels, 2, 2][..])?
        .permute([0, 3, 1, 4, 2, 5])?
        .contiguous()?
        .reshape((batch, channels, rows * 2, columns * 2))?)
}

/// (1, tokens, channels) → (frames, channels, rows, columns)
pub(crate) fn to_frames(tokens: &Tensor, [frames, rows, columns]: [usize; 3]) -> Result<Tensor> {
    let channels = tokens.dim(2)?;
    Ok(tokens
        .reshape((frames, rows * columns, channels))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((frames, channels, rows, columns))?)
}

/// The way back.
pub(crate) fn to_tokens(frames: &Tensor) -> Result<Tensor> {
    let (count, channels, rows, columns) = frames.dims4()?;
    Ok(frames
        .reshape((count, channels, rows * columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((1, count * rows * columns, channels))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, wave};

    #[test]
    fn a_token_holds_its_patch_channel_by_channel() {
        let latents = wave(&[2, 3, 4, 6]);
        let tokens = pack(&latents).unwrap();
        assert_eq!(tokens.dims(), [2, 6, 12]);
        let at = |t: &Tensor, i: [usize; 4]| {
            t.narrow(0, i[0], 1)
                .unwrap()
                .narrow(1, i[1], 1)
                .unwrap()
                .narrow(2, i[2], 1)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()[i[3]]
        };
        // Token (row 1, column 2) of picture 1, channel 2, upper right.
        assert_eq!(at(&tokens, [1, 5, 9, 0]), at(&latents, [1, 2, 2, 5]));
        assert_close(&unpack(&tokens, 2, 3).unwrap(), &latents, 0.0);
    }
}
