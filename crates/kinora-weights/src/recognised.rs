//! A recognised model of any family, for those who need no more of it than its files, its sizes and
//! its memory. Whoever computes with it matches on the family.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kinora_core::{Family, WeightFile};

use crate::{
    Error, ModelLayout, Network, Parts, Result, WeightSet,
    detect::detect_with,
    glance::glance,
    layout::path_of,
    lora::LoraTargets,
    ltx::{self, LtxEstimate, LtxLayout, is_ltx},
    ltx2::{self, Ltx2Layout, is_ltx2},
    memory::{self, Estimate},
    search::PartSources,
    wan::{self, WanLayout, is_wan},
};

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub enum Recognised {
    /// Makes pictures: FLUX.1 and Stable Diffusion.
    Pictures(Box<ModelLayout>),
    /// Wan.
    Wan(Box<WanLayout>),
    /// LTX-Video.
    Ltx(Box<LtxLayout>),
    /// LTX-2 and 2.3.
    Ltx2(Box<Ltx2Layout>),
}

/// Recognises a model of any family, in a folder or a file.
pub fn recognise(root: &Path) -> Result<Recognised> {
    recognise_with(root, &PartSources::default())
}

/// The same, with parts from other places too.
///
/// # Errors
/// As [`recognise`]; and a part was chosen that the model does not have, or that its file is not.
pub fn recognise_with(root: &Path, sources: &PartSources) -> Result<Recognised> {
    let found = if is_wan(root) {
        Recognised::Wan(Box::new(wan::detect_with(root, sources)?))
    } else if is_ltx(root) {
        Recognised::Ltx(Box::new(ltx::detect_with(root, sources)?))
    } else if is_ltx2(root) {
        Recognised::Ltx2(Box::new(ltx2::detect_with(root, sources)?))
    } else {
        Recognised::Pictures(Box::new(detect_with(root, sources)?))
    };
    let is_used = |name: &&String| found.elsewhere().contains_key(*name);
    match sources.chosen.keys().find(|name| !is_used(name)) {
        Some(name) => Err(Error::unsupported(
            root,
            format!(
                "it has no part {name:?} that can be replaced; it has {}",
                found.replaceable().join(", ")
            ),
        )),
        None => Ok(found),
    }
}

/// What a run is asked for, as far as it takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSize {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames; 1 for pictures.
    pub frames: u32,
    /// Frames that the network sees at once: fewer than all where a clip goes through windows.
    pub seen_frames: u32,
    /// Frames in a second; sound is as long as they are.
    pub fps: u32,
    /// Length of the long text side, in tokens.
    pub text_tokens: usize,
    /// Pictures that go through the network together.
    pub batch: usize,
    /// Bytes of one number of an activation.
    pub bytes_per_number: u64,
    /// Network calls of a step whose blocks' results are kept for steps to come; 0: none are.
    pub kept_passes: u32,
}

impl Recognised {
    /// The folder or file that was recognised.
    pub fn root(&self) -> &Path {
        match self {
            Self::Pictures(layout) => &layout.root,
            Self::Wan(layout) => &layout.root,
            Self::Ltx(layout) => &layout.root,
            Self::Ltx2(layout) => &layout.root,
        }
    }

    /// Architecture.
    pub fn family(&self) -> Family {
        match self {
            Self::Pictures(layout) => layout.family,
            Self::Wan(_) => Family::Wan,
            Self::Ltx(_) => Family::Ltx,
            Self::Ltx2(_) => Family::Ltx2,
        }
    }

    /// Release of the architecture.
    pub fn variant(&self) -> &str {
        match self {
            Self::Pictures(layout) => &layout.variant,
            Self::Wan(layout) => &layout.variant,
            Self::Ltx(layout) => &layout.variant,
            Self::Ltx2(layout) => &layout.variant,
        }
    }

    /// Weight files; their hashes are not known yet.
    pub fn weights(&self) -> &[WeightFile] {
        match self {
            Self::Pictures(layout) => &layout.weights,
            Self::Wan(layout) => &layout.weights,
            Self::Ltx(layout) => &layout.weights,
            Self::Ltx2(layout) => &layout.weights,
        }
    }

    /// The quantised format that most numbers of its denoiser's file are stored in: `nvfp4`, `Q4_K`. None
    /// where plain numbers are more, and where the file is gone.
    pub fn quantised_as(&self) -> Option<String> {
        // The denoiser is the first component of every family.
        let file = self.weights().first()?;
        let set = WeightSet::open_file(&self.weight_path(file)).ok()?;
        set.quantised_as()
    }

    /// Where a weight file of this model lies.
    pub fn weight_path(&self, file: &WeightFile) -> PathBuf {
        path_of(self.root(), self.elsewhere(), file)
    }

    /// Files of parts that lie outside of the model's folder or were chosen, by component. With them
    /// as [`PartSources::chosen`] the same files are found again.
    pub fn elsewhere(&self) -> &BTreeMap<String, PathBuf> {
        match self {
            Self::Pictures(layout) => &layout.elsewhere,
            Self::Wan(layout) => &layout.elsewhere,
            Self::Ltx(layout) => &layout.elsewhere,
            Self::Ltx2(layout) => &layout.elsewhere,
        }
    }

    /// The parts for which another file can be chosen, by the names of their folders.
    pub fn replaceable(&self) -> Vec<&'static str> {
        match self {
            Self::Pictures(layout) => match &layout.parts {
                Parts::Flux(_) => vec!["vae", "text_encoder", "text_encoder_2"],
                Parts::Sd(parts) => [
                    (true, "vae"),
                    (parts.clip.is_some(), "text_encoder"),
                    (parts.clip_2.is_some(), "text_encoder_2"),
                ]
                .into_iter()
                .filter_map(|(is_there, name)| is_there.then_some(name))
                .collect(),
            },
            Self::Wan(layout) => layout.replaceable(),
            Self::Ltx(_) | Self::Ltx2(_) => vec!["vae", "text_encoder"],
        }
    }

    /// Which of some files may be chosen for a part.
    pub fn choices<'a>(&self, part: &str, files: &'a [PathBuf]) -> Vec<&'a PathBuf> {
        let fits = |network: &Network| match self {
            Self::Pictures(layout) => layout.takes(part, network),
            Self::Wan(layout) => layout.takes(part, network),
            Self::Ltx(layout) => layout.takes(part, network),
            Self::Ltx2(layout) => layout.takes(part, network),
        };
        (files.iter())
            .filter(|file| {
                let networks = glance(file);
                networks.networks().iter().any(|found| fits(&found.network))
            })
            .collect()
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        match self {
            Self::Pictures(layout) => layout.total_bytes(),
            Self::Wan(layout) => layout.total_bytes(),
            Self::Ltx(layout) => layout.total_bytes(),
            Self::Ltx2(layout) => layout.total_bytes(),
        }
    }

    /// What widths and heights are multiples of, in pixels.
    pub fn size_step(&self) -> u32 {
        match self {
            Self::Pictures(layout) => layout.parts.size_step() as u32,
            Self::Wan(layout) => layout.parts.size_step() as u32,
            Self::Ltx(layout) => layout.parts.vae.scale() as u32,
            Self::Ltx2(layout) => layout.parts.vae.scale() as u32,
        }
    }

    /// Longest prompt that the text side was made for, in tokens, where its tokenizer tells.
    pub fn max_text_tokens(&self) -> Option<usize> {
        match self {
            Self::Pictures(layout) => layout.max_text_tokens,
            Self::Wan(_) | Self::Ltx(_) | Self::Ltx2(_) => None,
        }
    }

    /// The layers that adapters may change.
    pub fn lora_targets(&self) -> Result<LoraTargets> {
        match self {
            Self::Pictures(layout) => LoraTargets::of_pictures(layout),
            Self::Wan(layout) => LoraTargets::of_wan(layout),
            Self::Ltx(layout) => LoraTargets::of_ltx(layout),
            Self::Ltx2(layout) => LoraTargets::of_ltx2(layout),
        }
    }

    /// What a run of this size needs.
    pub fn estimate(&self, run: RunSize) -> Estimate {
        let estimate = self.estimate_plain(run);
        Estimate {
            activations: estimate.activations.saturating_add(self.kept_bytes(run)),
            ..estimate
        }
    }

    /// What a network remembers of earlier steps: for every pass what its first block adds, and what
    /// the others do.
    fn kept_bytes(&self, run: RunSize) -> u64 {
        let (width, height) = (u64::from(run.size.0), u64::from(run.size.1));
        let grid = |step: u64| (width / step.max(1)) * (height / step.max(1));
        let latent_frames = |scale: usize| {
            let scale = (scale as u64).max(1);
            (u64::from(run.frames).saturating_sub(1)) / scale + 1
        };
        let (tokens, hidden) = match self {
            Self::Pictures(layout) => match layout.flux() {
                Some(parts) => (grid(self.size_step().into()), parts.transformer.hidden()),
                None => return 0,
            },
            Self::Wan(layout) => {
                let frames = latent_frames(layout.parts.vae.time_scale());
                let tokens = grid(self.size_step().into()).saturating_mul(frames);
                (tokens, layout.parts.transformer.hidden())
            }
            Self::Ltx(layout) => {
                let frames = latent_frames(layout.parts.vae.time_scale());
                let tokens = grid(self.size_step().into()).saturating_mul(frames);
                (tokens, layout.parts.transformer.hidden())
            }
            Self::Ltx2(layout) => {
                let (parts, rate) = (&layout.parts, f64::from(run.fps.max(1)));
                let frames = latent_frames(parts.vae.time_scale());
                let tokens = grid(self.size_step().into()).saturating_mul(frames);
                let sound = parts.audio.tokens(run.frames, rate) as u64;
                // In tokens of the picture.
                let share = sound.saturating_mul(parts.audio.hidden() as u64);
                let hidden = parts.transformer.hidden();
                (
                    tokens.saturating_add(share / hidden.max(1) as u64 + 1),
                    hidden,
                )
            }
        };
        let passes = match (self, run.kept_passes) {
            // Guided plans are led away from two more.
            (Self::Ltx2(_), 2..) => 4,
            (_, passes) => passes,
        };
        let factors = [
            hidden as u64,
            2 * u64::from(passes),
            run.batch as u64,
            run.bytes_per_number,
        ];
        factors.into_iter().fold(tokens, u64::saturating_mul)
    }

    fn estimate_plain(&self, run: RunSize) -> Estimate {
        match self {
            Self::Pictures(layout) => memory::estimate(
                layout,
                run.size,
                run.text_tokens,
                run.batch,
                run.bytes_per_number,
            ),
            Self::Wan(layout) => {
                let frames = (run.frames, run.seen_frames);
                let clip = (layout.parts).estimate(run.size, frames, run.bytes_per_number);
                Estimate {
                    weights: layout.resident_bytes(),
                    activations: clip.activations,
                    decode: clip.decode,
                    tiled_decode: clip.tiled_decode,
                }
            }
            Self::Ltx(layout) => {
                let clip = (layout.parts).estimate(run.size, run.frames, run.bytes_per_number);
                of_clip(layout.total_bytes(), clip)
            }
            Self::Ltx2(layout) => {
                let clip = layout.parts.estimate(
                    run.size,
                    run.frames,
                    f64::from(run.fps.max(1)),
                    run.text_tokens,
                    run.bytes_per_number,
                );
                of_clip(layout.total_bytes(), clip)
            }
        }
    }
}

fn of_clip(weights: u64, clip: LtxEstimate) -> Estimate {
    Estimate {
        weights,
        activations: clip.activations,
        decode: clip.decode,
        tiled_decode: clip.tiled_decode,
    }
}
