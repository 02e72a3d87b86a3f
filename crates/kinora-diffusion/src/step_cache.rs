//! Steps that reuse most of an earlier one: the first block of a network is run, and where what it
//! adds has hardly changed since the last full step, what the other blocks added then is added again.
//!
//! After the first-block cache of ParaAttention (C. Cheng) and diffusers
//! (`hooks/first_block_cache.py`): a call is full when mean |r − r′| > threshold · mean |r′|, where r is
//! what the first block adds to its input and r′ what it added in the last full call. Here every row
//! of a batch, and each of the calls of a guided step, decides for itself, so that a picture is the
//! same alone and in a batch.

use std::collections::BTreeSet;

use candle_core::{D, DType, Device, Tensor};

use crate::{Error, Result, error::bail_shape};

/// Far above any use: half as much again changes between two steps.
pub const MAX_THRESHOLD: f32 = 1.0;

/// Refuses what is no threshold.
pub(crate) fn check(threshold: f32) -> Result<()> {
    if (0.0..=MAX_THRESHOLD).contains(&threshold) {
        return Ok(());
    }
    Err(Error::BadRequest(format!(
        "steps that differ by {threshold} are reused; 0 to {MAX_THRESHOLD} is possible"
    )))
}

/// What networks remember of so many passes over tokens of this width, in bytes.
pub(crate) fn kept_bytes(threshold: f32, passes: u64, tokens: u64, width: u64, bytes: u64) -> u64 {
    match threshold > 0.0 {
        // What the first block adds, and what the others do.
        true => [2, passes, width, bytes]
            .into_iter()
            .fold(tokens, u64::saturating_mul),
        false => 0,
    }
}

/// What a network remembers between two calls, of every row that goes through it together.
#[derive(Debug)]
pub struct StepCache {
    threshold: f32,
    rows: Vec<Memory>,
}

/// Of one row.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// None before the first call.
    added: Option<Added>,
    /// Whether the last call was a full one.
    is_full: bool,
}

/// What was added in the last full call, in the number format of the network: (1, tokens, width).
#[derive(Clone, Debug)]
struct Added {
    /// By the first block.
    first: Tensor,
    /// By all the others.
    rest: Tensor,
}

impl StepCache {
    /// An empty cache: the next call of every row is full.
    pub fn new(threshold: f32, rows: usize) -> Self {
        Self {
            threshold,
            rows: vec![Memory::default(); rows],
        }
    }

    /// Whether a row's last call went through all blocks.
    pub fn was_full(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|memory| memory.is_full)
    }

    /// Forgets the rows that are not kept.
    pub fn keep(&mut self, is_kept: &[bool]) {
        let mut kept = is_kept.iter();
        self.rows.retain(|_| kept.next().copied().unwrap_or(false));
    }

    /// Takes over what another cache remembers of one of its rows.
    pub fn take(&mut self, row: usize, other: &mut Self, from: usize) {
        if let (Some(own), Some(theirs)) = (self.rows.get_mut(row), other.rows.get_mut(from)) {
            *own = std::mem::take(theirs);
        }
    }

    /// What comes out of the last block, (rows, tokens, width). `before` and `after` are the first
    /// block's input and result; `rest` runs the other blocks on the latter. It runs for all rows when
    /// one of them needs it; the others take nothing from it.
    pub fn run(
        &mut self,
        before: &Tensor,
        after: Tensor,
        rest: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if after.dim(0)? != self.rows.len() {
            bail_shape!("{} rows where {} were", after.dim(0)?, self.rows.len());
        }
        let added = (&after - before)?;
        for (i, memory) in self.rows.iter_mut().enumerate() {
            memory.is_full = match &memory.added {
                Some(last) => {
                    let change = relative_change(&added.narrow(0, i, 1)?, &last.first)?;
                    // What cannot be compared is computed.
                    change.is_nan() || change > self.threshold
                }
                None => true,
            };
        }
        let full = match self.rows.iter().any(|memory| memory.is_full) {
            true => Some(rest(after.clone())?),
            false => None,
        };
        let mut results = Vec::with_capacity(self.rows.len());
        for (i, memory) in self.rows.iter_mut().enumerate() {
            let own = after.narrow(0, i, 1)?;
            results.push(match (&full, memory.is_full, &memory.added) {
                (Some(full), true, _) => {
                    let result = full.narrow(0, i, 1)?;
                    memory.added = Some(Added {
                        first: added.narrow(0, i, 1)?.contiguous()?,
                        rest: (&result - &own)?,
                    });
                    result
                }
                (_, false, Some(last)) => (own + &last.rest)?,
                _ => return Err(Error::Shape("a step without a result".to_owned())),
            });
        }
        match (full, self.rows.iter().all(|memory| memory.is_full)) {
            (Some(full), true) => Ok(full),
            _ => Ok(Tensor::cat(&results, 0)?),
        }
    }
}

/// mean |a − b| / mean |b|, in f32: row by row, then over the rows, so that the sums stay short.
fn relative_change(a: &Tensor, b: &Tensor) -> Result<f32> {
    let mean = |x: Tensor| -> Result<f32> {
        let rows = x.abs()?.to_dtype(DType::F32)?.mean(D::Minus1)?;
        Ok(rows.flatten_all()?.mean(0)?.to_scalar()?)
    };
    Ok(mean((a - b)?)? / mean(b.clone())?)
}

/// The last full call of one network call of a step: what it takes to remember the same again.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    /// Which call of the program.
    pub call: usize,
    /// The latents that went into it: f32, one row.
    pub latents: Tensor,
}

/// An anchor in plain numbers, as checkpoints store it; its shape is that of the latents.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAnchor {
    /// Which of the network calls of a step: 0 the one with the prompt, 1 the one without.
    pub pass: u32,
    /// Which call of the program.
    pub call: u32,
    /// The latents that went into it.
    pub latents: Vec<f32>,
}

/// The anchors of a row's passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Anchors([Option<Anchor>; 2]);

impl Anchors {
    /// Notes a full call.
    pub fn set(&mut self, pass: usize, anchor: Anchor) {
        if let Some(place) = self.0.get_mut(pass) {
            *place = Some(anchor);
        }
    }

    /// The last full call of a pass.
    pub fn get(&self, pass: usize) -> Option<&Anchor> {
        self.0.get(pass)?.as_ref()
    }

    /// Notes a call for the passes that went through all blocks in it.
    pub fn note(&mut self, caches: &PassCaches, anchor: &Anchor) {
        for pass in (0..caches.passes()).filter(|pass| caches.was_full(*pass)) {
            self.set(pass, anchor.clone());
        }
    }

    /// The calls that some pass remembers, each once.
    pub fn calls(&self) -> BTreeSet<usize> {
        self.0.iter().flatten().map(|anchor| anchor.call).collect()
    }

    /// What went into such a call.
    pub fn at(&self, call: usize) -> Option<&Anchor> {
        self.0.iter().flatten().find(|anchor| anchor.call == call)
    }

    /// Whether it is what a pass remembers.
    pub fn is_at(&self, pass: usize, call: usize) -> bool {
        self.get(pass).is_some_and(|anchor| anchor.call == call)
    }

    /// Forgets the calls before this one, which another network took.
    pub fn forget_before(&mut self, first: usize) {
        for place in &mut self.0 {
            place.take_if(|anchor| anchor.call < first);
        }
    }

    /// In plain numbers.
    pub fn store(&self) -> Result<Vec<StoredAnchor>> {
        let passes = self.0.iter().zip(0u32..);
        passes
            .filter_map(|(anchor, pass)| Some((anchor.as_ref()?, pass)))
            .map(|(anchor, pass)| {
                Ok(StoredAnchor {
                    pass,
                    call: anchor.call as u32,
                    latents: anchor.latents.flatten_all()?.to_vec1()?,
                })
            })
            .collect()
    }

    /// From plain numbers; `shape` is that of the latents.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when they do not belong to latents of that shape, or come from later.
    pub fn restore(
        stored: &[StoredAnchor],
        shape: &[usize],
        done: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut anchors = Self::default();
        let count: usize = shape.iter().product();
        for anchor in stored {
            let place = anchors.0.get_mut(anchor.pass as usize);
            let (Some(place), true, true) = (
                place,
                anchor.latents.len() == count,
                (anchor.call as usize) < done,
            ) else {
                return Err(Error::BadCheckpoint(
                    "its reused steps do not belong to its latents".to_owned(),
                ));
            };
            *place = Some(Anchor {
                call: anchor.call as usize,
                latents: Tensor::from_slice(&anchor.latents, shape, device)?,
            });
        }
        Ok(anchors)
    }
}

/// The caches of a clip's network calls: the calls of a guided step go through the network together,
/// as rows of one cache, or in turn, each with a cache of its own.
#[derive(Debug)]
pub(crate) struct PassCaches {
    caches: Vec<StepCache>,
    is_together: bool,
}

impl PassCaches {
    /// Empty caches of so many passes; none for a threshold of 0.
    pub fn new(threshold: f32, passes: usize, is_together: bool) -> Option<Self> {
        let (caches, rows) = match is_together {
            true => (1, passes),
            false => (passes, 1),
        };
        (threshold > 0.0).then(|| Self {
            caches: (0..caches)
                .map(|_| StepCache::new(threshold, rows))
                .collect(),
            is_together,
        })
    }

    /// The cache of a call: of both passes together, or of one of them.
    pub fn of(&mut self, pass: usize) -> Option<&mut StepCache> {
        self.caches.get_mut(if self.is_together { 0 } else { pass })
    }

    fn place(&self, pass: usize) -> (usize, usize) {
        match self.is_together {
            true => (0, pass),
            false => (pass, 0),
        }
    }

    /// How many calls of a step there are.
    pub fn passes(&self) -> usize {
        match self.is_together {
            true => self.caches.first().map_or(0, |cache| cache.rows.len()),
            false => self.caches.len(),
        }
    }

    /// Whether a pass went through all blocks last.
    pub fn was_full(&self, pass: usize) -> bool {
        let (cache, row) = self.place(pass);
        (self.caches.get(cache)).is_some_and(|cache| cache.was_full(row))
    }

    /// Takes over what other caches of the same passes remember of some of them.
    pub fn take(&mut self, other: &mut Self, is_taken: impl Fn(usize) -> bool) {
        for pass in (0..self.passes()).filter(|pass| is_taken(*pass)) {
            let (cache, row) = self.place(pass);
            let pair = (self.caches.get_mut(cache), other.caches.get_mut(cache));
            if let (Some(own), Some(theirs)) = pair {
                own.take(row, theirs, row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[[f32; 2]]) -> Tensor {
        let flat = values.concat();
        Tensor::from_vec(flat, (values.len(), 1, 2), &Device::Cpu).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Runs with an input of zeros; the blocks after the first multiply by ten.
    fn step(cache: &mut StepCache, first: &[[f32; 2]]) -> (Vec<f32>, usize) {
        let after = rows(first);
        let before = after.zeros_like().unwrap();
        let mut calls = 0;
        let result = cache.run(&before, after, |after| {
            calls += 1;
            Ok((after * 10.0)?)
        });
        (numbers(&result.unwrap()), calls)
    }

    #[test]
    fn a_step_that_hardly_differs_adds_what_was_added_before() {
        let mut cache = StepCache::new(0.1, 1);
        assert_eq!(step(&mut cache, &[[1.0, -1.0]]), (vec![10.0, -10.0], 1));
        assert!(cache.was_full(0));
        // 5% from the last full one: itself and nine times the full one.
        assert_eq!(step(&mut cache, &[[1.05, -1.05]]), (vec![10.05, -10.05], 0));
        assert!(!cache.was_full(0));
        // 5% from the one before and 11% from the last full one.
        assert_eq!(step(&mut cache, &[[1.11, -1.11]]).1, 1);
        // Exactly at the threshold it is reused, as in the reference.
        let mut cache = StepCache::new(0.5, 1);
        step(&mut cache, &[[1.0, 1.0]]);
        assert_eq!(step(&mut cache, &[[1.5, 1.5]]).1, 0);
        assert_eq!(step(&mut cache, &[[f32::NAN, 1.5]]).1, 1);
    }

    #[test]
    fn every_row_decides_for_itself() {
        let mut both = StepCache::new(0.1, 2);
        let mut alone = [StepCache::new(0.1, 1), StepCache::new(0.1, 1)];
        for values in [[[1.0, 2.0], [3.0, 4.0]], [[1.01, 2.0], [6.0, 8.0]]] {
            let (joint, calls) = step(&mut both, &values);
            assert_eq!(calls, 1);
            let own: Vec<f32> = alone
                .iter_mut()
                .zip(values)
                .flat_map(|(cache, row)| step(cache, &[row]).0)
                .collect();
            assert_eq!(joint, own);
        }
        assert_eq!([both.was_full(0), both.was_full(1)], [false, true]);
        both.keep(&[false, true]);
        assert!(both.was_full(0));
        assert_eq!(step(&mut both, &[[6.1, 8.0]]).1, 0);
    }

    #[test]
    fn anchors_survive_as_numbers_and_foreign_ones_are_refused() {
        let latents = rows(&[[1.0, 2.0]]);
        let mut anchors = Anchors::default();
        anchors.set(1, Anchor { call: 3, latents });
        let stored = anchors.store().unwrap();
        let back = |stored: &[StoredAnchor], shape: &[usize], done| {
            Anchors::restore(stored, shape, done, &Device::Cpu)
        };
        let again = back(&stored, &[1, 1, 2], 4).unwrap();
        assert!(again.get(0).is_none());
        assert_eq!(again.get(1).unwrap().call, 3);
        assert_eq!(again.store().unwrap(), stored);
        assert!(back(&stored, &[1, 1, 3], 4).is_err());
        assert!(back(&stored, &[1, 1, 2], 3).is_err());
        let mut foreign = stored.clone();
        foreign[0].pass = 2;
        assert!(back(&foreign, &[1, 1, 2], 4).is_err());
        anchors.forget_before(4);
        assert!(anchors.get(1).is_none());
    }
}
