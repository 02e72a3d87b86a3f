//! Jobs on their way through the denoiser: one row each, in batches of one shape.

use candle_core::Tensor;

use super::{ImageParams, pictures::Given};
use crate::{
    Result,
    samplers::Run,
    step_cache::{Anchors, StepCache},
    vae::Tiling,
};

/// An encoded text.
#[derive(Clone, Debug)]
pub(crate) struct Conditioning {
    /// (batch, text tokens, T5 width)
    pub tokens: Tensor,
    /// (batch, CLIP width)
    pub pooled: Tensor,
}

impl Conditioning {
    fn join<'a>(texts: impl Iterator<Item = &'a Conditioning> + Clone) -> Result<Self> {
        let tokens: Vec<&Tensor> = texts.clone().map(|text| &text.tokens).collect();
        let pooled: Vec<&Tensor> = texts.map(|text| &text.pooled).collect();
        Ok(Self {
            tokens: Tensor::cat(&tokens, 0)?,
            pooled: Tensor::cat(&pooled, 0)?,
        })
    }

    fn select(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            tokens: self.tokens.index_select(rows, 0)?,
            pooled: self.pooled.index_select(rows, 0)?,
        })
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Its place in the list of jobs.
    pub job: usize,
    pub params: &'a ImageParams,
    pub positive: Conditioning,
    pub negative: Option<Conditioning>,
    /// Latents on their way: (1, tokens, channels).
    pub run: Run,
    /// What pictures it was given.
    pub given: Given,
    /// Of its checkpoints.
    pub identity: String,
    /// The steps that later ones reuse.
    pub anchors: Anchors,
    /// How its picture goes through the VAE.
    pub tiling: Tiling,
}

impl Row<'_> {
    /// Whether two rows may go through the network together.
    fn matches(&self, other: &Row) -> bool {
        let (a, b) = (self.params, other.params);
        let grid = |row: &Row| {
            let context = row.given.context.as_ref();
            context.map(|context| (context.rows, context.columns))
        };
        (a.width, a.height, a.text_tokens) == (b.width, b.height, b.text_tokens)
            && self.positive.tokens.dims() == other.positive.tokens.dims()
            && self.run.done() == other.run.done()
            && self.run.program() == other.run.program()
            && a.flux.step_cache == b.flux.step_cache
            && self.negative.is_some() == other.negative.is_some()
            && grid(self) == grid(other)
    }
}

/// Rows that go through the network together, their tensors joined.
pub(super) struct Batch<'a> {
    pub rows: Vec<Row<'a>>,
    /// Latents on their way: (rows, tokens, channels).
    pub run: Run,
    pub positive: Conditioning,
    pub negative: Option<Conditioning>,
    /// Further channels of every token, (rows, tokens, channels).
    pub channels: Option<Tensor>,
    /// Further tokens, (rows, tokens, channels).
    pub context: Option<Tensor>,
    /// What the network remembers of earlier steps, with the prompt and without it; empty where no
    /// step is reused.
    pub caches: Vec<StepCache>,
}

/// Cuts rows into batches of one shape, at most as large as `size` says, in the order of the jobs.
pub(super) fn batches<'a>(
    rows: Vec<Row<'a>>,
    size: impl Fn(&ImageParams) -> Result<usize>,
) -> Result<Vec<Batch<'a>>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let most = size(row.params)?;
        match groups
            .iter_mut()
            .find(|group| group.len() < most && group[0].matches(&row))
        {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups.into_iter().map(Batch::join).collect()
}

impl<'a> Batch<'a> {
    fn join(rows: Vec<Row<'a>>) -> Result<Self> {
        let runs: Vec<&Run> = rows.iter().map(|row| &row.run).collect();
        let negative = rows[0]
            .negative
            .is_some()
            .then(|| Conditioning::join(rows.iter().filter_map(|row| row.negative.as_ref())))
            .transpose()?;
        let cat = |tensors: Vec<&Tensor>| match tensors.is_empty() {
            true => Ok(None),
            false => Tensor::cat(&tensors, 0).map(Some),
        };
        let given = || rows.iter().map(|row| &row.given);
        let context = given().filter_map(|given| given.context.as_ref());
        Ok(Self {
            run: Run::join(&runs)?,
            channels: cat(given()
                .filter_map(|given| given.channels.as_ref())
                .collect())?,
            context: cat(context.map(|context| &context.tokens).collect())?,
            positive: Conditioning::join(rows.iter().map(|row| &row.positive))?,
            negative,
            caches: Vec::new(),
            rows,
        })
    }

    /// Drops the rows that `is_kept` does not want.
    pub fn keep(&mut self, mut is_kept: impl FnMut(&Row) -> bool) -> Result<()> {
        let kept: Vec<bool> = self.rows.iter().map(&mut is_kept).collect();
        if kept.iter().all(|kept| *kept) {
            return Ok(());
        }
        let indices: Vec<u32> = (0u32..)
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .map(|(i, _)| i)
            .collect();
        self.caches.iter_mut().for_each(|cache| cache.keep(&kept));
        let mut kept = kept.into_iter();
        self.rows.retain(|_| kept.next().unwrap_or(false));
        if self.rows.is_empty() {
            return Ok(());
        }
        let count = indices.len();
        let indices = Tensor::from_vec(indices, count, self.run.latents().device())?;
        self.run.select(&indices)?;
        self.positive = self.positive.select(&indices)?;
        self.negative = self
            .negative
            .as_ref()
            .map(|text| text.select(&indices))
            .transpose()?;
        for tensor in [&mut self.channels, &mut self.context]
            .into_iter()
            .flatten()
        {
            *tensor = tensor.index_select(&indices, 0)?;
        }
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
