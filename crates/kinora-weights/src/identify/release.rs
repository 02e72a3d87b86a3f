//! Which release a denoiser is, as far as names, shapes, notes in the header and the file's name tell.

use std::path::Path;

use super::{FilePart, Network};
use crate::{WeightSet, maps::ltx_vae::LtxVaeRelease};

/// A family of denoisers that adapters are trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Base {
    Sd1,
    Sd2,
    Sdxl,
    SdxlRefiner,
    Flux1,
    Wan21,
    Wan22,
    LtxVideo,
    Ltx2,
}

impl Base {
    /// The name that people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Base::Sd1 => "SD 1.x",
            Base::Sd2 => "SD 2.x",
            Base::Sdxl => "SDXL",
            Base::SdxlRefiner => "SDXL refiner",
            Base::Flux1 => "FLUX.1",
            Base::Wan21 => "Wan 2.1",
            Base::Wan22 => "Wan 2.2",
            Base::LtxVideo => "LTX-Video",
            Base::Ltx2 => "LTX-2",
        }
    }
}

/// What a UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity.
    Velocity,
}

/// Family and release of a denoiser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Family. Wan 2.2's text-to-video experts cannot be told from 2.1's by their headers; the
    /// file's name decides then.
    pub base: Base,
    /// What it may be, the likeliest first: releases with the same names and shapes are told apart
    /// by the file's name at most.
    pub variants: Vec<&'static str>,
    /// What it predicts; None: it cannot be told (SD 2.x), or the family knows one only.
    pub prediction: Option<Prediction>,
    /// Whether it was trained to start from pure noise (zero terminal signal-to-noise ratio).
    pub has_zero_terminal_snr: bool,
}

/// The release of a denoiser; None for other networks.
pub(super) fn of(set: &WeightSet, part: &FilePart) -> Option<Release> {
    let hint = hints(set);
    let has = |words: &[&str]| words.iter().any(|word| hint.contains(word));
    let (base, variants): (Base, Vec<&'static str>) = match &part.network {
        Network::Flux(config) => {
            let all: &[&str] = match (
                config.in_channels / config.out_width().max(1),
                config.has_guidance,
            ) {
                (6, _) => &["fill"],
                (2, _) => &["canny", "depth"],
                (_, true) => &["dev", "kontext", "krea"],
                (_, false) => &["schnell"],
            };
            (Base::Flux1, prefer(all, &hint))
        }
        Network::FluxRedux(_) => (Base::Flux1, vec!["redux"]),
        Network::Unet(config) => {
            let base = match (config.added_dim, config.cross_attention_dim) {
                (Some(_), 1280) => Base::SdxlRefiner,
                (Some(_), _) => Base::Sdxl,
                (None, 1024) => Base::Sd2,
                (None, _) => Base::Sd1,
            };
            let all: &[&str] = match (base, config.in_channels) {
                (_, 9) => &["inpaint"],
                (_, 8) => &["edit"],
                (_, 5) => &["depth"],
                (_, 7) => &["upscale"],
                (Base::SdxlRefiner, _) => &["refiner"],
                (Base::Sdxl, _) => &["base", "turbo", "lightning", "hyper", "lcm"],
                (Base::Sd2, _) => &["2.1", "turbo"],
                _ => &["1.5", "lcm"],
            };
            (base, prefer(all, &hint))
        }
        Network::Wan(config) => {
            let is_22 = has(&[
                "2.2",
                "2_2",
                "wan22",
                "a14b",
                "high_noise",
                "low_noise",
                "highnoise",
                "lownoise",
            ]);
            match (config.in_channels, config.hidden(), config.image_dim) {
                (48, ..) => (Base::Wan22, vec!["ti2v-5b"]),
                (_, _, Some(_)) if config.image_positions.is_some() => {
                    (Base::Wan21, vec!["flf2v-14b"])
                }
                (_, _, Some(_)) => (Base::Wan21, vec!["i2v-14b"]),
                (36, ..) => (
                    Base::Wan22,
                    experts(&["i2v-a14b-high", "i2v-a14b-low"], &hint),
                ),
                (_, hidden, None) if hidden < 5120 => (Base::Wan21, vec!["t2v-1.3b"]),
                _ if is_22 => (
                    Base::Wan22,
                    experts(&["t2v-a14b-high", "t2v-a14b-low"], &hint),
                ),
                _ => (
                    Base::Wan21,
                    vec!["t2v-14b", "t2v-a14b-high", "t2v-a14b-low"],
                ),
            }
        }
        Network::Ltx(config) => match &config.audio {
            Some(audio) if audio.is_gated => (Base::Ltx2, vec!["2.3"]),
            Some(_) => (Base::Ltx2, vec!["2.0"]),
            None if config.layers > 28 => {
                (Base::LtxVideo, prefer(&["13b", "13b-distilled"], &hint))
            }
            None => (Base::LtxVideo, prefer(&["2b", "2b-distilled"], &hint)),
        },
        _ => return None,
    };
    let is_unet = matches!(part.network, Network::Unet(_));
    Some(Release {
        base,
        variants,
        prediction: is_unet.then(|| prediction(set, base, &hint)).flatten(),
        has_zero_terminal_snr: is_unet && (set.has("ztsnr") || hint.contains("ztsnr")),
    })
}

/// What the writer of the file said about it, and the file's name, in lower case.
fn hints(set: &WeightSet) -> String {
    let mut hint = file_name(set.path());
    for key in [
        "modelspec.title",
        "modelspec.architecture",
        "modelspec.prediction_type",
        "general.name",
    ] {
        if let Some(text) = set.metadata().get(key) {
            hint.push(' ');
            hint.push_str(text);
        }
    }
    hint.to_lowercase()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The variants with those that the hint names in front.
fn prefer(all: &[&'static str], hint: &str) -> Vec<&'static str> {
    // The last part tells: `13b-distilled` is named by `distilled`.
    let is_named = |name: &&str| hint.contains(name.rsplit('-').next().unwrap_or(name));
    let mut variants: Vec<_> = all.iter().copied().filter(|name| is_named(name)).collect();
    // Marks of faster training are worth more than the name of the base.
    variants.reverse();
    variants.extend(all.iter().copied().filter(|name| !is_named(name)));
    variants
}

/// The two experts, the one that the hint names in front.
fn experts(all: &[&'static str; 2], hint: &str) -> Vec<&'static str> {
    let is_low =
        hint.contains("low_noise") || hint.contains("lownoise") || hint.contains("low-noise");
    if is_low {
        vec![all[1], all[0]]
    } else {
        all.to_vec()
    }
}

fn prediction(set: &WeightSet, base: Base, hint: &str) -> Option<Prediction> {
    if set.has("v_pred")
        || ["v-pred", "vpred", "v_pred", "v-prediction"]
            .iter()
            .any(|word| hint.contains(word))
    {
        return Some(Prediction::Velocity);
    }
    match set
        .metadata()
        .get("modelspec.prediction_type")
        .map(String::as_str)
    {
        Some("v") => return Some(Prediction::Velocity),
        Some("epsilon") => return Some(Prediction::Epsilon),
        _ => {}
    }
    match base {
        // The 512 base predicts noise, the 768 model velocity; nothing in the header differs.
        Base::Sd2 if hint.contains("768") => Some(Prediction::Velocity),
        Base::Sd2 if hint.contains("512") || hint.contains("base") || hint.contains("turbo") => {
            Some(Prediction::Epsilon)
        }
        Base::Sd2 => None,
        _ => Some(Prediction::Epsilon),
    }
}

/// The release of LTX's video VAE below a prefix, from its authors' names.
pub(super) fn of_ltx_vae(set: &WeightSet, prefix: &str) -> LtxVaeRelease {
    let has = |name: &str| set.has(&format!("{prefix}{name}"));
    let is_timed = has("decoder.last_time_embedder.timestep_embedder.linear_1.weight");
    let width = set
        .shape(&format!("{prefix}encoder.conv_out.conv.weight"))
        .and_then(|shape| shape.get(1).copied());
    match (is_timed, width) {
        (true, Some(2048)) => LtxVaeRelease::V095,
        (true, _) => LtxVaeRelease::V091,
        (false, Some(2048)) => LtxVaeRelease::Two,
        (false, _) => LtxVaeRelease::V090,
    }
}
