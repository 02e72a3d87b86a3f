//! What a weight file holds, from its header alone: networks, their configurations, layouts and
//! prefixes, and what can be said about release and training.
//!
//! [`identify`] reads one header and no tensor. [`FilePart::open`] then gives a network's tensors
//! under canonical names. Whole models, with tokenizers and configuration files beside the weights,
//! are recognised by [`crate::detect`].

mod configs;
mod marks;
mod release;

use std::path::Path;

use crate::{
    ClipConfig, ClipVisionConfig, Container, Error, FluxConfig, GemmaConfig, LtxConfig,
    QuantFormat, ReduxConfig, Result, SiglipConfig, T5Config, UnetConfig, VaeConfig, WanConfig,
    WanVaeConfig, WeightSet, lora,
    maps::{self, Opened, ltx_vae::LtxVaeRelease},
    view::Part,
};
use marks::{FOREIGN, Kind, MARKS};

pub use release::{Base, Prediction, Release};

/// A layout of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameLayout {
    /// Of the diffusers and transformers libraries.
    Canonical,
    /// Of the network's authors, which ComfyUI and GGUF converters keep.
    Original,
    /// Of latent diffusion, which A1111 keeps.
    Ldm,
    /// Of OpenCLIP.
    OpenClip,
    /// Of llama.cpp.
    Llama,
    /// Of the authors of LTX, which depends on the release.
    LtxVae(LtxVaeRelease),
}

/// A network and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// The denoiser of SD 1.x, 2.x, XL.
    Unet(UnetConfig),
    /// The denoiser of FLUX.1.
    Flux(FluxConfig),
    /// FLUX.1's projection of what SigLIP sees in a picture.
    FluxRedux(ReduxConfig),
    /// The denoiser of Wan.
    Wan(WanConfig),
    /// The denoiser of LTX-Video and LTX-2.
    Ltx(LtxConfig),
    /// LTX-2's transformers between text and denoiser; whether each has its own projection (2.3).
    LtxConnectors {
        /// Version 2.3.
        is_per_modality: bool,
    },
    /// The picture VAE of SD and FLUX.1. Scale and shift are guesses by its latents.
    KlVae(VaeConfig),
    /// The video VAE of Wan.
    WanVae(WanVaeConfig),
    /// The video VAE of LTX.
    LtxVae(LtxVaeRelease),
    /// The sound VAE of LTX-2.
    LtxAudioVae,
    /// LTX-2's vocoder; whether a second stage widens the band (2.3).
    LtxVocoder {
        /// Version 2.3.
        has_second_stage: bool,
    },
    /// A CLIP text encoder; whether a projection follows.
    Clip {
        /// Its numbers.
        config: ClipConfig,
        /// Width of the projected embedding.
        projection: Option<usize>,
    },
    /// CLIP's vision side.
    ClipVision(ClipVisionConfig),
    /// SigLIP's vision side.
    Siglip(SiglipConfig),
    /// A T5 encoder: every block has its own position bias in UMT5.
    T5 {
        /// Its numbers.
        config: T5Config,
        /// Whether it is UMT5.
        is_umt5: bool,
    },
    /// Gemma 3's text side.
    Gemma(GemmaConfig),
}

impl Network {
    /// What it is, for messages.
    pub fn title(&self) -> &'static str {
        match self {
            Network::Unet(_) => "a UNet",
            Network::Flux(_) => "a FLUX.1 transformer",
            Network::FluxRedux(_) => "FLUX.1 Redux",
            Network::Wan(_) => "a Wan transformer",
            Network::Ltx(_) => "an LTX transformer",
            Network::LtxConnectors { .. } => "LTX-2 text connectors",
            Network::KlVae(_) => "a picture VAE",
            Network::WanVae(_) => "a Wan VAE",
            Network::LtxVae(_) => "an LTX VAE",
            Network::LtxAudioVae => "an LTX-2 sound VAE",
            Network::LtxVocoder { .. } => "an LTX-2 vocoder",
            Network::Clip { .. } => "a CLIP text encoder",
            Network::ClipVision(_) => "a CLIP vision encoder",
            Network::Siglip(_) => "a SigLIP vision encoder",
            Network::T5 { .. } => "a T5 text encoder",
            Network::Gemma(_) => "a Gemma 3 text encoder",
        }
    }
}

impl Network {
    /// Whether it makes pictures or clips: what makes a file a model.
    pub fn is_denoiser(&self) -> bool {
        matches!(
            self,
            Network::Unet(_) | Network::Flux(_) | Network::Wan(_) | Network::Ltx(_)
        )
    }
}

/// One network in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePart {
    /// What it is.
    pub network: Network,
    /// Its names.
    pub names: NameLayout,
    /// What stands before each of its names.
    pub prefix: String,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its format.
    pub container: Container,
    /// Its networks, in the order of the table of marks.
    pub parts: Vec<FilePart>,
    /// Family and release of its denoiser, when it has one.
    pub release: Option<Release>,
}

impl FilePart {
    /// The network's tensors under canonical names, and what the file holds beside them below the
    /// same prefix.
    pub fn open(&self, set: &WeightSet) -> Result<Opened> {
        open(set, self.kind(), self.names, &self.prefix)
    }

    fn kind(&self) -> Kind {
        match &self.network {
            Network::Unet(_) => Kind::Unet,
            Network::Flux(_) => Kind::Flux,
            Network::FluxRedux(_) => Kind::FluxRedux,
            Network::Wan(_) => Kind::Wan,
            Network::Ltx(_) => Kind::Ltx,
            Network::LtxConnectors { .. } => Kind::LtxConnectors,
            Network::KlVae(_) => Kind::KlVae,
            Network::WanVae(_) => Kind::WanVae,
            Network::LtxVae(_) => Kind::LtxVae,
            Network::LtxAudioVae => Kind::LtxAudioVae,
            Network::LtxVocoder { .. } => Kind::LtxVocoder,
            Network::Clip { .. } => Kind::Clip,
            Network::ClipVision(_) => Kind::ClipVision,
            Network::Siglip(_) => Kind::Siglip,
            Network::T5 { .. } => Kind::T5,
            Network::Gemma(_) => Kind::Gemma,
        }
    }
}

/// Tells what a file holds. Adapters (LoRA) are refused here; [`lora::LoraFile`] reads them.
pub fn identify(path: &Path) -> Result<Identity> {
    identify_set(&WeightSet::open_file(path)?)
}

/// Tells what opened files hold.
pub fn identify_set(set: &WeightSet) -> Result<Identity> {
    let mut parts = Vec::new();
    for mark in &MARKS {
        for (name, _) in set.tensors() {
            let Some(prefix) = name.strip_suffix(mark.tensor) else {
                continue;
            };
            let has = |tensor: &&str| set.has(&format!("{prefix}{tensor}"));
            let is_prefix = prefix.is_empty() || prefix.ends_with('.');
            if is_prefix && mark.with.iter().all(has) && !mark.without.iter().any(has) {
                parts.extend(read_part(set, mark.kind, mark.names, prefix)?);
            }
        }
    }
    if parts.is_empty() {
        return Err(refuse(set));
    }
    let release = parts.iter().find_map(|part| release::of(set, part));
    Ok(Identity {
        container: set.container(),
        parts,
        release,
    })
}

/// A network with its configuration; None when the prefix belongs to a larger one.
fn read_part(
    set: &WeightSet,
    kind: Kind,
    names: NameLayout,
    prefix: &str,
) -> Result<Option<FilePart>> {
    let prefix = match (kind, names) {
        // The mark of CLIP's second half is inside of a whole CLIP; of a vocoder, inside of two.
        (Kind::Clip | Kind::ClipVision | Kind::Siglip, NameLayout::Canonical) => prefix
            .strip_suffix("text_model.")
            .or_else(|| prefix.strip_suffix("vision_model."))
            .unwrap_or(prefix),
        (Kind::LtxVocoder, _) if prefix.ends_with("bwe_generator.") => return Ok(None),
        (Kind::LtxVocoder, _) => prefix
            .strip_suffix("vocoder.")
            .filter(|outer| set.has(&format!("{outer}mel_stft.mel_basis")))
            .unwrap_or(prefix),
        // Their names have prefixes of several kinds, all within the map.
        (Kind::LtxConnectors, NameLayout::Original) => prefix
            .strip_suffix(maps::ltx::CONNECTOR_PREFIXES[0])
            .unwrap_or(prefix),
        _ => prefix,
    };
    let names = match names {
        NameLayout::LtxVae(_) => NameLayout::LtxVae(release::of_ltx_vae(set, prefix)),
        other => other,
    };
    refuse_formats(set, prefix)?;
    let opened = open(set, kind, names, prefix)?;
    let network = configs::read(kind, names, &opened.set)?;
    Ok(Some(FilePart {
        network,
        names,
        prefix: prefix.to_owned(),
    }))
}

/// Refuses networks with tensors in formats that are not read, before their shapes are believed.
fn refuse_formats(set: &WeightSet, prefix: &str) -> Result<()> {
    let mut layers = 0;
    let mut first = None;
    for (name, view) in set.tensors().filter(|(name, _)| name.starts_with(prefix)) {
        if let Some(QuantFormat::Other(format)) =
            view.scaling.as_ref().map(|scaling| &scaling.format)
        {
            layers += 1;
            first.get_or_insert((name, format));
        }
    }
    let Some((name, format)) = first else {
        return Ok(());
    };
    let others = match layers - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Err(Error::unsupported(
        set.path(),
        format!(
            "{name:?}{others} are stored as {format}, which is not read; get the model in bf16, \
             fp8, mxfp8, nvfp4, int8 or GGUF"
        ),
    ))
}

fn open(set: &WeightSet, kind: Kind, names: NameLayout, prefix: &str) -> Result<Opened> {
    use NameLayout as N;
    let count = |tail: &str| maps::count_blocks(set, &format!("{prefix}{tail}"));
    let same = |name: &str| Some((name.to_owned(), Part::Whole));
    match (kind, names) {
        (Kind::Unet, N::Ldm) => {
            maps::ldm_unet::unet(configs::unet_shape(set, prefix)).open(set, prefix)
        }
        (Kind::Flux, N::Original) => {
            let (double, single) = (count("double_blocks."), count("single_blocks."));
            maps::flux::transformer(double, single).open(set, prefix)
        }
        (Kind::Wan, N::Original) => maps::wan::transformer(count("blocks.")).open(set, prefix),
        (Kind::Ltx, N::Original) => {
            maps::ltx::transformer(count("transformer_blocks.")).open(set, prefix)
        }
        (Kind::LtxConnectors, N::Original) => {
            maps::open_by(set, prefix, maps::ltx::rename_connector)
        }
        (Kind::KlVae, N::Ldm) => {
            let (levels, blocks) = (count("decoder.up."), count("encoder.down.0.block."));
            maps::ldm_vae::vae(levels, blocks).open(set, prefix)
        }
        (Kind::KlVae, _) => maps::open_by(set, prefix, maps::ldm_vae::rename_old),
        (Kind::WanVae, N::Original) => maps::open_by(set, prefix, maps::wan_vae::rename),
        (Kind::LtxVae, N::LtxVae(release)) => {
            maps::open_by(set, prefix, |name| maps::ltx_vae::rename(release, name))
        }
        (Kind::LtxAudioVae, _) => maps::open_by(set, prefix, maps::ltx::rename_audio_vae),
        (Kind::LtxVocoder, N::Original) => maps::open_by(set, prefix, maps::ltx::rename_vocoder),
        (Kind::Clip, N::OpenClip) => {
            // SD 2.x takes the last hidden state but one and never uses the last block, nor the
            // projection after it.
            let is_sd2 = prefix.starts_with("cond_stage_model.");
            let layers = count("transformer.resblocks.").saturating_sub(usize::from(is_sd2));
            let mut opened = maps::text::open_clip(layers).open(set, prefix)?;
            if is_sd2 {
                opened.set = opened.set.renamed_by(|name| {
                    (!name.starts_with("text_projection")).then(|| name.to_owned())
                });
            }
            Ok(opened)
        }
        (Kind::Clip, _) => maps::open_by(set, prefix, maps::text::rename_clip),
        (Kind::ClipVision | Kind::Siglip, _) => {
            maps::open_by(set, prefix, maps::text::rename_clip_vision)
        }
        (Kind::T5, N::Llama) => maps::open_by(set, prefix, maps::text::rename_t5_llama),
        (Kind::T5, N::Original) => maps::open_by(set, prefix, maps::text::rename_umt5_wan),
        (Kind::T5, _) => maps::open_by(set, prefix, maps::text::rename_t5),
        (Kind::Gemma, N::Llama) => maps::open_by(set, prefix, maps::text::rename_gemma_llama),
        (Kind::Gemma, _) => maps::open_by(set, prefix, maps::text::rename_gemma),
        _ => maps::open_by(set, prefix, same),
    }
}

/// Says what it is instead, as far as can be told.
fn refuse(set: &WeightSet) -> Error {
    if lora::is_adapter(set) {
        return Error::unsupported(
            set.path(),
            "it is a LoRA (or another adapter): add it to a model instead of opening it as one",
        );
    }
    let title = FOREIGN.iter().find_map(|(tensor, title)| {
        set.tensors()
            .any(|(name, _)| {
                name.strip_suffix(tensor)
                    .is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            })
            .then_some(title)
    });
    match title {
        Some(title) => {
            Error::unsupported(set.path(), format!("it is {title}, which is not run here"))
        }
        None => {
            let examples: Vec<_> = set.tensors().take(3).map(|(name, _)| name).collect();
            Error::unknown_layout(
                set.path(),
                format!("its tensors have no known names: {} …", examples.join(", ")),
            )
        }
    }
}
