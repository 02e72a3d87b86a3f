//! Jobs on their way through the UNet: one row each, in batches of one shape.

use candle_core::Tensor;

use super::{
    guidance::Guidance,
    source::{Kept, PutBack},
};
use crate::{
    Result,
    denoisers::{UnetDenoiser, UnetText},
    noise::Generator,
    pipelines::ImageParams,
    samplers::Run,
};

/// An encoded text.
#[derive(Clone, Debug)]
pub(crate) struct Conditioning {
    /// (1, tokens, width)
    pub tokens: Tensor,
    /// Pooled text and sizes for XL, as [`UnetDenoiser::describe`] gives them.
    pub described: Option<Tensor>,
}

/// A job with its texts.
#[derive(Clone, Debug)]
pub(crate) struct Prompted {
    /// Its place in the list of jobs.
    pub job: usize,
    pub positive: Conditioning,
    /// None: not guided.
    pub negative: Option<Conditioning>,
}

/// One job.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub text: Prompted,
    pub params: &'a ImageParams,
    /// Latents on their way: (1, channels, height, width).
    pub run: Run,
    /// Calls of the network after which it ends.
    pub end: usize,
    pub generator: Generator,
    pub kept: Option<Kept>,
    /// Of its checkpoints.
    pub identity: String,
}

impl Row<'_> {
    pub fn job(&self) -> usize {
        self.text.job
    }

    /// Whether two rows may go through the network together.
    fn matches(&self, other: &Row) -> bool {
        let is_seen = |row: &Row| matches!(row.kept, Some(Kept::Seen(_)));
        self.run.latents().dims() == other.run.latents().dims()
            && self.run.done() == other.run.done()
            && self.end == other.end
            && self.run.program() == other.run.program()
            && self.text.positive.tokens.dims() == other.text.positive.tokens.dims()
            && self.text.negative.is_some() == other.text.negative.is_some()
            && is_seen(self) == is_seen(other)
    }

    /// How it is guided.
    fn guidance(&self) -> Guidance {
        Guidance {
            scale: self.params.active_cfg().unwrap_or(1.0),
            rescale: self.params.sd.guidance_rescale,
        }
    }

    /// What is put back after every step.
    pub fn put_back(&self) -> Option<&PutBack> {
        match &self.kept {
            Some(Kept::PutBack(part)) => Some(part),
            _ => None,
        }
    }

    /// Steps that are done, and all of them. A step may be several calls of the network.
    pub fn progress(&self, calls: usize) -> (u32, u32) {
        let all = &self.run.program().calls;
        let step = |call: usize| all.get(call).map_or(0, |call| call.step);
        let first = step(0);
        let steps = step(self.end.saturating_sub(1)).saturating_sub(first) + 1;
        let done = match calls {
            0 => 0,
            calls if calls >= self.end => steps,
            calls => step(calls).saturating_sub(first).clamp(1, steps),
        };
        (done as u32, steps as u32)
    }
}

/// Rows that go through the network together, their tensors joined.
pub(super) struct Batch<'a> {
    pub rows: Vec<Row<'a>>,
    /// Latents on their way: (rows, channels, height, width).
    pub run: Run,
    pub texts: Texts,
    /// Mask and latents of what stays, (rows, 1 + channels, height, width).
    pub seen: Option<Tensor>,
    /// Whether prompts and negative prompts go through the network one after the other.
    pub is_split: bool,
}

/// Texts of a batch as the network has prepared them.
pub(super) enum Texts {
    /// Not guided.
    Alone(UnetText),
    /// Negative prompts, then prompts: twice the rows.
    Joined(UnetText),
    /// Negative prompts and prompts.
    Apart(UnetText, UnetText),
}

/// Cuts rows into batches of one shape, at most as large as `size` says (with whether guidance is
/// split), in the order of the jobs.
pub(super) fn batches<'a>(
    unet: &UnetDenoiser,
    rows: Vec<Row<'a>>,
    size: impl Fn(&Row) -> Result<(usize, bool)>,
) -> Result<Vec<Batch<'a>>> {
    let mut groups: Vec<(Vec<Row>, bool)> = Vec::new();
    for row in rows {
        let (most, is_split) = size(&row)?;
        match groups
            .iter_mut()
            .find(|(group, _)| group.len() < most && group[0].matches(&row))
        {
            Some((group, _)) => group.push(row),
            None => groups.push((vec![row], is_split)),
        }
    }
    groups
        .into_iter()
        .map(|(rows, is_split)| Batch::join(unet, rows, is_split))
        .collect()
}

impl<'a> Batch<'a> {
    fn join(unet: &UnetDenoiser, rows: Vec<Row<'a>>, is_split: bool) -> Result<Self> {
        let runs: Vec<&Run> = rows.iter().map(|row| &row.run).collect();
        let seen: Vec<&Tensor> = rows
            .iter()
            .filter_map(|row| match &row.kept {
                Some(Kept::Seen(seen)) => Some(seen),
                _ => None,
            })
            .collect();
        let seen = (!seen.is_empty())
            .then(|| Tensor::cat(&seen, 0))
            .transpose()?;
        Ok(Self {
            run: Run::join(&runs)?,
            texts: prepare(unet, &rows, is_split)?,
            seen,
            is_split,
            rows,
        })
    }

    /// How each row is guided; empty when none is.
    pub fn guidance(&self) -> Vec<Guidance> {
        match self.texts {
            Texts::Alone(_) => Vec::new(),
            _ => self.rows.iter().map(Row::guidance).collect(),
        }
    }

    /// Noise for the next call, each row from its own stream.
    pub fn draw(&mut self) -> Result<Option<Tensor>> {
        if self.run.call().is_none_or(|call| call.draws == 0) {
            return Ok(None);
        }
        let mut generators: Vec<Generator> =
            self.rows.iter().map(|row| row.generator.clone()).collect();
        let noise = self.run.draw(&mut generators)?;
        for (row, generator) in self.rows.iter_mut().zip(generators) {
            row.generator = generator;
        }
        Ok(noise)
    }

    /// Drops the rows that `is_kept` does not want.
    pub fn keep(
        &mut self,
        unet: &UnetDenoiser,
        mut is_kept: impl FnMut(&Row) -> bool,
    ) -> Result<()> {
        let kept: Vec<bool> = self.rows.iter().map(&mut is_kept).collect();
        if kept.iter().all(|kept| *kept) {
            return Ok(());
        }
        let indices: Vec<u32> = (0u32..)
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .map(|(i, _)| i)
            .collect();
        let mut kept = kept.into_iter();
        self.rows.retain(|_| kept.next().unwrap_or(false));
        if self.rows.is_empty() {
            return Ok(());
        }
        let count = indices.len();
        let indices = Tensor::from_vec(indices, count, self.run.latents().device())?;
        self.run.select(&indices)?;
        self.seen = self
            .seen
            .as_ref()
            .map(|seen| seen.index_select(&indices, 0))
            .transpose()?;
        self.texts = prepare(unet, &self.rows, self.is_split)?;
        Ok(())
    }

    /// Each row with its latents.
    pub fn into_rows(self) -> Result<Vec<(Row<'a>, Tensor)>> {
        let latents = self.run.latents().clone();
        self.rows
            .into_iter()
            .enumerate()
            .map(|(i, row)| Ok((row, latents.narrow(0, i, 1)?.contiguous()?)))
            .collect()
    }
}

fn prepare(unet: &UnetDenoiser, rows: &[Row], is_split: bool) -> Result<Texts> {
    let join = |texts: &[&Conditioning]| -> Result<UnetText> {
        let tokens: Vec<&Tensor> = texts.iter().map(|text| &text.tokens).collect();
        let described: Vec<&Tensor> = texts
            .iter()
            .filter_map(|text| text.described.as_ref())
            .collect();
        let described = (!described.is_empty())
            .then(|| Tensor::cat(&described, 0))
            .transpose()?;
        unet.prepare(&Tensor::cat(&tokens, 0)?, described.as_ref())
    };
    let positive: Vec<&Conditioning> = rows.iter().map(|row| &row.text.positive).collect();
    let negative: Vec<&Conditioning> = rows
        .iter()
        .filter_map(|row| row.text.negative.as_ref())
        .collect();
    if negative.is_empty() {
        return Ok(Texts::Alone(join(&positive)?));
    }
    if is_split {
        return Ok(Texts::Apart(join(&negative)?, join(&positive)?));
    }
    Ok(Texts::Joined(join(&[negative, positive].concat())?))
}
