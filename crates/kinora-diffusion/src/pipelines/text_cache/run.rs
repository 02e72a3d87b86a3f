//! The texts of a run: each is looked for among those that were kept, and encoded once if it is not
//! there.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use candle_core::Tensor;
use kinora_core::Stage;

use super::KeptTexts;
use crate::{
    Result,
    pipelines::{JobTimings, RunWatch, milliseconds},
};

/// What an encoder says of a text, as it is kept: `N` tensors.
pub(crate) trait KeepText<const N: usize>: Clone {
    /// What the tensors are called.
    const PARTS: [&'static str; N];

    /// The tensors, in that order.
    fn parts(&self) -> [&Tensor; N];

    /// The same from its tensors. `numbers` are what decides how the text was read.
    fn from_parts(parts: [Tensor; N], numbers: &[usize]) -> Self;
}

impl KeepText<1> for Tensor {
    const PARTS: [&'static str; 1] = ["tokens"];

    fn parts(&self) -> [&Tensor; 1] {
        [self]
    }

    fn from_parts([tokens]: [Tensor; 1], _: &[usize]) -> Self {
        tokens
    }
}

/// What was said of the texts of a run, by the text and the numbers that decide how it is read.
#[derive(Debug)]
pub(crate) struct EncodedTexts<T>(HashMap<(String, Vec<usize>), T>);

impl<T> Default for EncodedTexts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> EncodedTexts<T> {
    /// What was said of a text.
    pub fn get(&self, text: &str, numbers: &[usize]) -> Option<T> {
        self.0.get(&(text.to_owned(), numbers.to_vec())).cloned()
    }

    /// Takes what is known of a text from elsewhere.
    pub fn insert(&mut self, text: &str, numbers: &[usize], said: T) {
        self.0.insert((text.to_owned(), numbers.to_vec()), said);
    }

    /// Looks for a text among those that were kept. Whether it is there, or was already.
    pub fn find<const N: usize>(
        &mut self,
        kept: Option<&KeptTexts<'_>>,
        text: &str,
        numbers: &[usize],
    ) -> bool
    where
        T: KeepText<N>,
    {
        let Entry::Vacant(entry) = self.0.entry((text.to_owned(), numbers.to_vec())) else {
            return true;
        };
        let found = kept.and_then(|kept| kept.find(text, numbers, T::PARTS));
        let is_found = found.is_some();
        if let Some(parts) = found {
            entry.insert(T::from_parts(parts, numbers));
        }
        is_found
    }

    /// What is said of a text: encoded and kept if that is not known yet.
    pub fn get_or_encode<const N: usize>(
        &mut self,
        kept: Option<&KeptTexts<'_>>,
        text: &str,
        numbers: &[usize],
        encode: impl FnOnce() -> Result<T>,
    ) -> Result<T>
    where
        T: KeepText<N>,
    {
        Ok(match self.0.entry((text.to_owned(), numbers.to_vec())) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let said = encode()?;
                if let Some(kept) = kept {
                    let named = T::PARTS.into_iter().zip(said.parts());
                    kept.keep(text, numbers, &named.collect::<Vec<_>>());
                }
                entry.insert(said).clone()
            }
        })
    }
}

/// Brings encoders into memory for a job, and tells it so. `read` is given where the share that is
/// done goes, 0 to 1.
pub(crate) fn read_for(
    job: usize,
    watch: &mut dyn RunWatch,
    read: impl FnOnce(&mut dyn FnMut(f32)) -> Result<()>,
) -> Result<()> {
    watch.stage(job, Stage::Loading, 0, 100);
    read(&mut |share| watch.stage(job, Stage::Loading, (share * 100.0) as u32, 100))
}

/// Brings an encoder into memory, telling the share that is done, 0 to 1.
type Read<'a> = &'a dyn Fn(&mut dyn FnMut(f32)) -> Result<()>;

/// How a model whose texts are read at a length of its own encodes them.
pub(crate) struct TextEncoding<'a, T> {
    /// The texts that were kept of it.
    pub kept: Option<KeptTexts<'a>>,
    /// Whether its encoders are in memory.
    pub is_read: &'a dyn Fn() -> bool,
    /// Brings them there.
    pub read: Read<'a>,
    /// Encodes a text of at most so many tokens.
    pub encode: &'a dyn Fn(&str, usize) -> Result<T>,
}

impl<T> TextEncoding<'_, T> {
    /// The texts of a job, each of which is encoded if it is known neither from an earlier job nor
    /// from an earlier run. The job is told of them as the first of `count` things.
    pub fn encode_job<const N: usize>(
        &self,
        texts: &mut EncodedTexts<T>,
        job: usize,
        (wanted, length): (&[&str], usize),
        count: u32,
        watch: &mut dyn RunWatch,
    ) -> Result<()>
    where
        T: KeepText<N>,
    {
        let (kept, numbers) = (self.kept.as_ref(), [length]);
        let mut is_missing = false;
        for text in wanted {
            is_missing |= !texts.find(kept, text, &numbers);
        }
        if is_missing && !(self.is_read)() {
            read_for(job, watch, self.read)?;
        }
        for (i, text) in (0u32..).zip(wanted) {
            watch.stage(job, Stage::Encoding, i, count);
            texts.get_or_encode(kept, text, &numbers, || (self.encode)(text, length))?;
        }
        Ok(())
    }

    /// The texts of every job that is still wanted; of each its texts and their length in tokens.
    pub fn encode_jobs<'j, const N: usize>(
        &self,
        jobs: impl Iterator<Item = (Vec<&'j str>, usize)>,
        watch: &mut dyn RunWatch,
        timings: &mut [JobTimings],
    ) -> Result<EncodedTexts<T>>
    where
        T: KeepText<N>,
    {
        let mut texts = EncodedTexts::default();
        for ((job, (wanted, length)), timings) in jobs.enumerate().zip(timings) {
            if watch.is_cancelled(job) {
                continue;
            }
            let start = Instant::now();
            let count = wanted.len() as u32;
            self.encode_job(&mut texts, job, (&wanted, length), count, watch)?;
            watch.stage(job, Stage::Encoding, count, count);
            timings.encoding_ms = milliseconds(start);
        }
        Ok(texts)
    }
}
