//! Steps that reuse most of an earlier one: the first block of a network is run, and where what it
//! adds has hardly changed since the last full step, what the other blocks added then is added again.
//!
//! After the first-block cache of ParaAttention (C. Cheng) and diffusers
//! (`hooks/first_block_cache.py`): a call is full when mean |r − r′| > threshold · mean |r′|, where r is
//! what the first block adds to its input and r′ what it added in the last full call. Here every row
//! of a batch, and each of the calls of a guided step, decides for itself, so that a picture is the
//! same alone and in a batch.
//!
//! The reference's cache does not know blocks of two streams (LTX-2's picture and sound): there the
//! same definition is applied to each stream, and a call is full when either asks for it.

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

/// What was added in the last full call, in the number format of the network: (1, tokens, width) of
/// every stream.
#[derive(Clone, Debug)]
struct Added {
    /// By the first block.
    first: Vec<Tensor>,
    /// By all the others.
    rest: Vec<Tensor>,
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
        let [result] = self.run_streams([before], [after], |[after]| Ok([rest(after)?]))?;
        Ok(result)
    }

    /// The same for networks whose blocks take several streams of tokens side by side: a row's call is
    /// full when what the first block adds to any of its streams has changed too much.
    pub fn run_streams<const N: usize>(
        &mut self,
        before: [&Tensor; N],
        after: [Tensor; N],
        rest: impl FnOnce([Tensor; N]) -> Result<[Tensor; N]>,
    ) -> Result<[Tensor; N]> {
        for stream in &after {
            if stream.dim(0)? != self.rows.len() {
                bail_shape!("{} rows where {} were", stream.dim(0)?, self.rows.len());
            }
        }
        let added = (after.iter().zip(before))
            .map(|(after, before)| Ok((after - before)?))
            .collect::<Result<Vec<_>>>()?;
        for (i, memory) in self.rows.iter_mut().enumerate() {
            memory.is_full = match &memory.added {
                Some(last) => {
                    let mut is_full = false;
                    for (added, last) in added.iter().zip(&last.first) {
                        let change = relative_change(&added.narrow(0, i, 1)?, last)?;
                        // What cannot be compared is computed.
                        is_full |= change.is_nan() || change > self.threshold;
                    }
                    is_full
                }
                None => true,
            };
        }
        let full = match self.rows.iter().any(|memory| memory.is_full) {
            true => Some(rest(after.clone())?),
            false => None,
        };
        // By row, then by stream.
        let mut results = Vec::with_capacity(self.rows.len());
        for (i, memory) in self.rows.iter_mut().enumerate() {
            let own = |streams: &[Tensor]| -> Result<Vec<Tensor>> {
                let rows = streams.iter().map(|stream| stream.narrow(0, i, 1));
                Ok(rows.collect::<candle_core::Result<_>>()?)
            };
            let start = own(&after)?;
            results.push(match (&full, memory.is_full, &memory.added) {
                (Some(full), true, _) => {
                    let result = own(full)?;
                    let first = own(&added)?;
                    let first = first.iter().map(Tensor::contiguous);
                    memory.added = Some(Added {
                        first: first.collect::<candle_core::Result<_>>()?,
                        rest: (result.iter().zip(&start))
                            .map(|(result, start)| result - start)
                            .collect::<candle_core::Result<_>>()?,
                    });
                    result
                }
                (_, false, Some(last)) => (start.iter().zip(&last.rest))
                    .map(|(start, rest)| start + rest)
                    .collect::<candle_core::Result<_>>()?,
                _ => return Err(Error::Shape("a step without a result".to_owned())),
            });
        }
        match (full, self.rows.iter().all(|memory| memory.is_full)) {
            (Some(full), true) => Ok(full),
            _ => {
                let streams = (0..N)
                    .map(|stream| {
                        let rows: Vec<&Tensor> = results.iter().map(|row| &row[stream]).collect();
                        Ok(Tensor::cat(&rows, 0)?)
                    })
                    .collect::<Result<Vec<_>>>()?;
                (streams.try_into()).map_err(|_| Error::Shape("a stream is missing".to_owned()))
            }
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
    /// Which of the network calls of a step: 0 the one with the prompt, then those that it is guided
    /// away from.
    pub pass: u32,
    /// Which call of the program.
    pub call: u32,
    /// The latents that went into it.
    pub latents: Vec<f32>,
}

/// Network calls of a step at most: with the prompt, without it, and two that LTX-2 is guided away
/// from besides.
const MAX_PASSES: usize = 4;

/// The anchors of a row's passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Anchors([Option<Anchor>; MAX_PASSES]);

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

/// The caches of a clip's network calls: some calls of a guided step go through the network together,
/// as rows of one cache, the others in turn, each with a cache of its own.
#[derive(Debug)]
pub(crate) struct PassCaches(Vec<StepCache>);

impl PassCaches {
    /// Empty caches of so many passes, all together or all in turn; none for a threshold of 0.
    pub fn new(threshold: f32, passes: usize, is_together: bool) -> Option<Self> {
        match is_together {
            true => Self::of_rows(threshold, &[passes]),
            false => Self::of_rows(threshold, &vec![1; passes]),
        }
    }

    /// Empty caches, of so many passes each, which go through the network together; none for a
    /// threshold of 0.
    pub fn of_rows(threshold: f32, rows: &[usize]) -> Option<Self> {
        let caches = rows.iter().map(|rows| StepCache::new(threshold, *rows));
        (threshold > 0.0).then(|| Self(caches.collect()))
    }

    /// The cache of a call that a pass goes through the network in.
    pub fn of(&mut self, pass: usize) -> Option<&mut StepCache> {
        let (cache, _) = self.place(pass)?;
        self.0.get_mut(cache)
    }

    /// Which cache, and which of its rows.
    fn place(&self, pass: usize) -> Option<(usize, usize)> {
        let mut row = pass;
        for (i, cache) in self.0.iter().enumerate() {
            match row.checked_sub(cache.rows.len()) {
                None => return Some((i, row)),
                Some(rest) => row = rest,
            }
        }
        None
    }

    /// How many calls of a step there are.
    pub fn passes(&self) -> usize {
        self.0.iter().map(|cache| cache.rows.len()).sum()
    }

    /// Whether a pass went through all blocks last.
    pub fn was_full(&self, pass: usize) -> bool {
        (self.place(pass)).is_some_and(|(cache, row)| self.0[cache].was_full(row))
    }

    /// Takes over what other caches of the same passes remember of some of them.
    pub fn take(&mut self, other: &mut Self, is_taken: impl Fn(usize) -> bool) {
        for pass in (0..self.passes()).filter(|pass| is_taken(*pass)) {
            let Some((cache, row)) = self.place(pass) else {
                continue;
            };
            let pair = (self.0.get_mut(cache), other.0.get_mut(cache));
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
    fn streams_side_by_side_are_reused_together() {
        let mut cache = StepCache::new(0.1, 1);
        let mut step = |first: [f32; 2]| {
            let after = first.map(|value| rows(&[[value, value]]));
            let zeros = rows(&[[0.0, 0.0]]);
            let mut calls = 0;
            let results = cache.run_streams([&zeros, &zeros], after, |[a, b]| {
                calls += 1;
                Ok([(a * 10.0)?, (b * 100.0)?])
            });
            (results.unwrap().map(|stream| numbers(&stream)[0]), calls)
        };
        assert_eq!(step([1.0, 1.0]), ([10.0, 100.0], 1));
        assert_eq!(step([1.05, 0.95]), ([10.05, 99.95], 0));
        // One of them has changed too much.
        assert_eq!(step([1.0, 1.25]), ([10.0, 125.0], 1));
        assert_eq!(step([f32::NAN, 1.25]).1, 1);
    }

    #[test]
    fn passes_find_their_caches_however_they_go_through_the_network() {
        let mut caches = PassCaches::of_rows(0.1, &[2, 1, 1]).unwrap();
        assert_eq!(caches.passes(), 4);
        let places: Vec<_> = (0..5).map(|pass| caches.place(pass)).collect();
        assert_eq!(
            places,
            [Some((0, 0)), Some((0, 1)), Some((1, 0)), Some((2, 0)), None]
        );
        assert!(caches.of(3).is_some() && caches.of(4).is_none());
        assert!(PassCaches::of_rows(0.0, &[1]).is_none());
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
        foreign[0].pass = 4;
        assert!(back(&foreign, &[1, 1, 2], 4).is_err());
        anchors.forget_before(4);
        assert!(anchors.get(1).is_none());
    }
}
