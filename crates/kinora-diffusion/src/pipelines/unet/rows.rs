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
    vae::Tiling,
};

/// An encoded text.
#[derive(Clone, Debug)]
pub(crate) struct Conditioning {
    /// (1, tokens, width)
    pub tokens: Tensor,
    /// Pooled text and sizes for XL, as [`UnetDenoiser::describe`] gives them.
    pub described: Option<Tensor>,
}

/// What the network is told from a step on.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub positive: Conditioning,
    /// None: not guided.
    pub negative: Option<Conditioning>,
}

/// A job with its texts, all of one length.
#[derive(Clone, Debug)]
pub(crate) struct Prompted {
    /// Its place in the list of jobs.
    pub job: usize,
    pub first: Said,
    /// What is said instead after so many steps, in their order.
    pub later: Vec<(u32, Said)>,
}

impl Prompted {
    /// From everything that is said, the first of it at the beginning.
    pub fn new(job: usize, said: Vec<(u32, Said)>) -> Option<Self> {
        let mut said = said.into_iter();
        let (_, first) = said.next()?;
        Some(Self {
            job,
            first,
            later: said.collect(),
        })
    }

    /// How often it has changed when so many steps are done.
    fn turns(&self, step: u32) -> usize {
        self.later
            .iter()
            .take_while(|(from, _)| *from <= step)
            .count()
    }

    /// What is said when so many steps are done.
    pub fn at(&self, step: u32) -> &Said {
        match self.turns(step) {
            0 => &self.first,
            turns => &self.later[turns - 1].1,
        }
    }

    /// Everything that is ever said.
    pub fn all(&self) -> impl Iterator<Item = &Said> {
        std::iter::once(&self.first).chain(self.later.iter().map(|(_, said)| said))
    }
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
    /// How its picture goes through the VAE.
    pub tiling: Tiling,
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
            && self.text.first.positive.tokens.dims() == other.text.first.positive.tokens.dims()
            && self.text.first.negative.is_some() == other.text.first.negative.is_some()
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
    /// How often each row's text has changed.
    turns: Vec<usize>,
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
        let run = Run::join(&runs)?;
        let step = step_of(&rows, &run);
        Ok(Self {
            texts: prepare(unet, &rows, is_split, step)?,
            turns: turns_of(&rows, step),
            run,
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

    /// Says what is to be said at the next step, where that is something else.
    pub fn turn(&mut self, unet: &UnetDenoiser) -> Result<()> {
        let step = step_of(&self.rows, &self.run);
        let turns = turns_of(&self.rows, step);
        if turns != self.turns {
            self.texts = prepare(unet, &self.rows, self.is_split, step)?;
            self.turns = turns;
        }
        Ok(())
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
        let step = step_of(&self.rows, &self.run);
        self.texts = prepare(unet, &self.rows, self.is_split, step)?;
        self.turns = turns_of(&self.rows, step);
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

/// Steps that the rows of a batch have done. They go through the network together.
fn step_of(rows: &[Row], run: &Run) -> u32 {
    rows.first().map_or(0, |row| row.progress(run.done()).0)
}

fn turns_of(rows: &[Row], step: u32) -> Vec<usize> {
    rows.iter().map(|row| row.text.turns(step)).collect()
}

/// The texts of all rows when so many steps are done.
fn prepare(unet: &UnetDenoiser, rows: &[Row], is_split: bool, step: u32) -> Result<Texts> {
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
    let said = || rows.iter().map(|row| row.text.at(step));
    let positive: Vec<&Conditioning> = said().map(|said| &said.positive).collect();
    let negative: Vec<&Conditioning> = said().filter_map(|said| said.negative.as_ref()).collect();
    if negative.is_empty() {
        return Ok(Texts::Alone(join(&positive)?));
    }
    if is_split {
        return Ok(Texts::Apart(join(&negative)?, join(&positive)?));
    }
    Ok(Texts::Joined(join(&[negative, positive].concat())?))
}
