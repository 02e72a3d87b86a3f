//! The state of one picture between two denoising steps, and its file.
//!
//! The file is a safetensors file with the tensor `latents`, what the sampler remembers of earlier
//! steps (`kept.0` …), where the noise stream stands (`noise`), what went into the steps that later
//! ones reuse (`anchor.pass.call`), and as metadata what must agree before it may be used and how the
//! result is decoded (`tiles`). It is complete or not there.

use std::path::Path;

use candle_core::{DType, Device};
use kinora_core::plan::NUMERICS;
use kinora_weights::{Dtype, Header, WeightSet};
use sha2::{Digest, Sha256};

use super::tensor_file::{TensorFile, write_atomically};
use crate::{
    Error, Result,
    noise::Generator,
    samplers::{Program, State},
    step_cache::StoredAnchor,
    vae::TileSide,
};

/// Of the file's content; a file of another version is not used.
const VERSION: &str = "2";
/// No sampler remembers as many tensors.
const MAX_KEPT: u32 = 64;
/// Tensors of the file.
const LATENTS: &str = "latents";
const NOISE: &str = "noise";
/// The field that says how the result is decoded.
const TILES: &str = "tiles";

/// A run after some steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps that are done, at least 1.
    pub step: u32,
    /// Latents, and what the sampler remembers.
    pub state: State,
    /// Where the noise stream stands, by [`Generator::save`]; empty when no more noise is drawn.
    pub noise: Vec<u8>,
    /// Where the steps that later ones reuse can be computed again: the network's own memory of them
    /// would be many times as large as the latents. Empty when none is reused.
    pub anchors: Vec<StoredAnchor>,
    /// How the result goes through its VAE, which by need depends on how much memory was there when
    /// the run began; None where that is not decided.
    pub tiles: Option<TileSide>,
    /// SHA-256 of everything that decides what the latents become: parameters, schedule, text
    /// embeddings, weights.
    pub identity: String,
}

/// Collects what identifies a run, unambiguously: every part is preceded by its length.
#[derive(Clone)]
pub(crate) struct Identity(Sha256);

impl Identity {
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Of a run, with what every family's runs are told apart by: how numbers are computed, the weight
    /// files, what adapters change of them, device and number format.
    pub fn of_run(files: &str, adapters: &str, (device, dtype): (&Device, DType)) -> Self {
        let mut identity = Self::new();
        for part in [NUMERICS, files, adapters] {
            identity.add(part.as_bytes());
        }
        identity.add(format!("{:?} {dtype:?}", device.location()).as_bytes());
        identity
    }

    /// Noise levels and times of every step.
    pub fn add_program(&mut self, program: &Program) {
        self.add_f32s(&program.sigmas);
        let times = program.calls.iter().map(|call| call.timestep as f32);
        self.add_f32s(&times.collect::<Vec<_>>());
    }

    pub fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    pub fn add_f32s(&mut self, values: &[f32]) {
        self.0.update((values.len() as u64).to_le_bytes());
        for value in values {
            self.0.update(value.to_bits().to_le_bytes());
        }
    }

    pub fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Checkpoint {
    /// The noise stream, to go on with.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when it was kept and cannot be read.
    pub fn generator(&self) -> Result<Option<Generator>> {
        if self.noise.is_empty() {
            return Ok(None);
        }
        let generator = Generator::restore(&self.noise);
        let damaged = || Error::BadCheckpoint("its noise stream cannot be read".to_owned());
        generator.ok_or_else(damaged).map(Some)
    }

    /// Writes the file: under a temporary name in the same folder, synced, then renamed.
    pub fn save(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        write_atomically(path, &folder.join(name), &self.to_bytes()).map_err(Error::io(path))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut file = TensorFile::default();
        let bytes_of = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let shape = &self.state.shape;
        file.add(LATENTS, "F32", shape, &bytes_of(&self.state.latents));
        for (slot, values) in &self.state.kept {
            file.add(&format!("kept.{slot}"), "F32", shape, &bytes_of(values));
        }
        file.add(NOISE, "U8", &[self.noise.len()], &self.noise);
        for anchor in &self.anchors {
            let name = format!("anchor.{}.{}", anchor.pass, anchor.call);
            file.add(&name, "F32", shape, &bytes_of(&anchor.latents));
        }
        let mut fields = serde_json::json!({
            "kinora_checkpoint": VERSION,
            "step": self.step.to_string(),
            "calls": self.state.calls.to_string(),
            "identity": self.identity,
        });
        if let Some(tiles) = self.tiles {
            fields[TILES] = tiles.to_string().into();
        }
        file.finish(fields)
    }

    /// Reads a file back. Whether it fits the work at hand is decided when it is used.
    pub fn load(path: &Path) -> Result<Self> {
        let damaged = |reason: &str| Error::BadCheckpoint(format!("{} {reason}", path.display()));
        let (_, header) = Header::open(path)?;
        let field = |name: &str| header.metadata.get(name).map(String::as_str);
        if field("kinora_checkpoint") != Some(VERSION) {
            return Err(damaged("is not a checkpoint of this version"));
        }
        let number = |name: &str| {
            field(name)
                .and_then(|number| number.parse::<u32>().ok())
                .filter(|number| *number > 0)
                .ok_or_else(|| damaged("does not tell its step"))
        };
        let identity = field("identity")
            .ok_or_else(|| damaged("does not tell whose it is"))?
            .to_owned();
        let set = WeightSet::open_file(path)?;
        let shape = set.get(LATENTS)?.shape.clone();
        let read = |name: &str| -> Result<Vec<f32>> {
            let view = set.get(name)?;
            if view.dtype != Dtype::F32 || view.shape != shape {
                return Err(damaged("holds tensors in an unusual format"));
            }
            let bytes = set.read(name)?;
            let (words, _) = bytes.as_chunks::<4>();
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        };
        let kept = (0..MAX_KEPT)
            .map(|slot| (slot, format!("kept.{slot}")))
            .filter(|(_, name)| set.has(name))
            .map(|(slot, name)| Ok((slot, read(&name)?)))
            .collect::<Result<_>>()?;
        let anchors = set
            .tensors()
            .filter_map(|(name, _)| {
                let (pass, call) = name.strip_prefix("anchor.")?.split_once('.')?;
                Some((name, pass.parse().ok()?, call.parse().ok()?))
            })
            .map(|(name, pass, call)| {
                Ok(StoredAnchor {
                    pass,
                    call,
                    latents: read(name)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            step: number("step")?,
            state: State {
                calls: number("calls")?,
                latents: read(LATENTS)?,
                kept,
                shape,
            },
            noise: set.read(NOISE)?,
            anchors,
            tiles: field(TILES).and_then(|tiles| tiles.parse().ok()),
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            step: 3,
            state: State {
                calls: 5,
                shape: vec![1, 2, 3],
                latents: vec![0.1, -2.0, 3.5e-8, f32::MAX, -0.0, 6.0],
                kept: vec![(0, vec![1.0; 6]), (2, vec![0.25; 6])],
            },
            noise: Generator::new(kinora_core::Rng::Cpu, 7).save(),
            anchors: vec![StoredAnchor {
                pass: 1,
                call: 2,
                latents: vec![0.5; 6],
            }],
            tiles: Some(TileSide::Of(384)),
            identity: "ab12".into(),
        }
    }

    #[test]
    fn a_file_gives_the_same_bits_back_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        let again = Checkpoint {
            step: 4,
            tiles: Some(TileSide::Whole),
            ..checkpoint()
        };
        again.save(&path).unwrap();
        let read = Checkpoint::load(&path).unwrap();
        assert_eq!(read, again);
        assert!(read.state.latents[4].is_sign_negative());
        assert!(read.generator().unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(matches!(Checkpoint::load(&path), Err(Error::Weights(_))));
        let good = checkpoint().to_bytes();
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(Checkpoint::load(&path).is_err());
        let version = b"\"kinora_checkpoint\":\"2\"";
        let at = good
            .windows(version.len())
            .position(|part| part == version)
            .unwrap();
        let mut other = good.clone();
        other[at + version.len() - 2] = b'9';
        fs::write(&path, other).unwrap();
        assert!(matches!(
            Checkpoint::load(&path),
            Err(Error::BadCheckpoint(_))
        ));
    }

    #[test]
    fn identities_do_not_run_together() {
        let of = |parts: &[&str]| {
            let mut identity = Identity::new();
            parts.iter().for_each(|part| identity.add(part.as_bytes()));
            identity.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab"]).len(), 64);
    }
}
