//! Stable Diffusion 1.x, 2.x and XL, in the reference library's folders (here) and in one file
//! ([`files`]): what their configurations say, which release they are, and whether the parts fit
//! each other.

pub(crate) mod files;

use std::path::Path;

use kinora_core::Family;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ClipConfig, Component, Error, ModelLayout, Parts, Result, UnetConfig, VaeConfig, WeightSet,
    json::{read_config, read_file_bounded, without_infinities},
    layout::{Origin, base_folder, list_files_as, open_origin},
    maps,
    search::{PartSources, list_elsewhere},
};

/// Far above any scheduler's configuration.
const MAX_SCHEDULER: u64 = 4 << 20;

/// Pipelines of the reference library that hold such a model. What they do with it is not the
/// model's affair.
const PIPELINES: [&str; 8] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "LatentConsistencyModelPipeline",
    "StableDiffusionInpaintPipelineLegacy",
];

/// A CLIP text encoder with a projection of its pooled state.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectedClip {
    /// Its numbers.
    pub config: ClipConfig,
    /// Width of the projected state.
    pub projection: usize,
}

/// The configurations of Stable Diffusion 1.x, 2.x and XL.
#[derive(Clone, Debug, PartialEq)]
pub struct SdParts {
    /// Denoiser.
    pub unet: UnetConfig,
    /// Latents to pixels and back.
    pub vae: VaeConfig,
    /// The text encoder; None in XL's refiner.
    pub clip: Option<ClipConfig>,
    /// XL's second text encoder.
    pub clip_2: Option<ProjectedClip>,
    /// `scheduler_config.json` as it stands.
    pub scheduler: String,
    /// XL: no negative prompt means zeros, not an encoded empty text.
    pub zeroes_empty_negative: bool,
    /// XL's refiner: it is told how beautiful the picture is, instead of its size.
    pub takes_aesthetic_score: bool,
}

#[derive(Deserialize)]
pub(crate) struct ModelIndex {
    #[serde(rename = "_class_name")]
    pub class: String,
    #[serde(default)]
    force_zeros_for_empty_prompt: Option<bool>,
    #[serde(default)]
    requires_aesthetics_score: Option<bool>,
}

impl ModelIndex {
    /// Whether its pipeline is one of Stable Diffusion's.
    pub fn is_sd(&self) -> bool {
        PIPELINES.contains(&self.class.as_str())
    }
}

#[derive(Deserialize)]
struct Projection {
    projection_dim: usize,
}

/// The folder of a component.
fn folder_name(component: Component) -> &'static str {
    match component {
        Component::Transformer => "unet",
        other => other.as_str(),
    }
}

/// What was found, before the parts were compared.
struct Found {
    parts: SdParts,
    /// In the order of [`Component::ALL`].
    origins: [Origin; 6],
    family: Family,
}

/// Recognises a folder whose `model_index.json` is one of Stable Diffusion's.
pub(crate) fn detect(
    root: &Path,
    index: &ModelIndex,
    sources: &PartSources,
) -> Result<ModelLayout> {
    let mut parts = read_parts(root, index)?;
    for (name, is_needed) in [
        ("tokenizer", parts.clip.is_some()),
        ("tokenizer_2", parts.clip_2.is_some()),
    ] {
        if is_needed {
            check_tokenizer(&root.join(name))?;
        }
    }
    let mut origins = Component::ALL.map(|component| {
        let is_there = match component {
            Component::Transformer | Component::Vae => true,
            Component::TextEncoder => parts.clip.is_some(),
            Component::TextEncoder2 => parts.clip_2.is_some(),
            Component::ImageEncoder | Component::ImageEmbedder => false,
        };
        match is_there {
            true => Origin::Folder(root.join(folder_name(component))),
            false => Origin::Absent,
        }
    });
    files::replace_chosen(root, &mut parts, &mut origins, sources)?;
    let family = match (parts.unet.added_dim, parts.unet.has_linear_projection) {
        (Some(_), _) => Family::Sdxl,
        (None, true) => Family::Sd2,
        (None, false) => Family::Sd1,
    };
    let found = Found {
        parts,
        origins,
        family,
    };
    describe(root, found, sources)
}

/// Recognises a file with a UNet, the other parts in it or beside it. Its text is cut by CLIP's own
/// tokenizer unless there is one beside it.
pub(crate) fn detect_file(root: &Path, file: &Path, sources: &PartSources) -> Result<ModelLayout> {
    describe(root, files::read(file, sources)?, sources)
}

/// Opens every component once: names, shapes and sizes agree with the configurations.
fn describe(root: &Path, found: Found, sources: &PartSources) -> Result<ModelLayout> {
    let Found {
        parts,
        origins,
        family,
    } = found;
    check_parts(root, &parts)?;
    let variant = name_variant(root, family, &parts)?;
    let parts = Parts::Sd(Box::new(parts));
    let named = Component::ALL.map(folder_name).into_iter();
    let elsewhere = list_elsewhere(root, sources, named.zip(&origins));
    let mut layout = ModelLayout {
        root: root.to_owned(),
        family,
        variant: variant.to_owned(),
        parts,
        max_text_tokens: None,
        weights: Vec::new(),
        component_bytes: [0; 6],
        component_elements: [0; 6],
        elsewhere,
        origins,
        text_folder: base_folder(root).to_owned(),
    };
    for component in Component::ALL {
        let slot = component as usize;
        if layout.origins[slot] == Origin::Absent {
            continue;
        }
        let set = open_origin(&layout.origins[slot], component, &layout.parts)?;
        if let Parts::Sd(parts) = &layout.parts {
            check_component(component, &set, parts)?;
        }
        layout.component_bytes[slot] = set.total_bytes();
        layout.component_elements[slot] = set.total_elements();
        for file in list_files_as(root, folder_name(component), &set)? {
            // A file with everything in it is listed once.
            if layout.weights.iter().all(|other| other.file != file.file) {
                layout.weights.push(file);
            }
        }
    }
    Ok(layout)
}

fn read_parts(root: &Path, index: &ModelIndex) -> Result<SdParts> {
    let config = |folder: &str| root.join(folder).join("config.json");
    let find = |folder: &str| {
        let path = config(folder);
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::missing(root, format!("{folder}/config.json"))),
        }
    };
    let vae_path = find("vae")?;
    let fields: Value = read_config(&vae_path)?;
    for name in ["latents_mean", "latents_std"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) {
            return Err(Error::unsupported(
                vae_path,
                format!("its latents are normalised by {name}, which is not known here"),
            ));
        }
    }
    let unet = UnetConfig::read(&find("unet")?)?;
    let is_xl = unet.added_dim.is_some();
    let has_first = !is_xl || config("text_encoder").is_file();
    let clip = has_first
        .then(|| ClipConfig::read(&find("text_encoder")?))
        .transpose()?;
    let clip_2 = is_xl
        .then(|| {
            let path = find("text_encoder_2")?;
            let Projection { projection_dim } = read_config(&path)?;
            Ok(ProjectedClip {
                config: ClipConfig::read(&path)?,
                projection: projection_dim,
            })
        })
        .transpose()?;
    let scheduler = read_scheduler(&root.join("scheduler").join("scheduler_config.json"))?;
    Ok(SdParts {
        vae: VaeConfig::read(&vae_path)?,
        zeroes_empty_negative: is_xl && index.force_zeros_for_empty_prompt.unwrap_or(true),
        takes_aesthetic_score: index.requires_aesthetics_score.unwrap_or(false),
        unet,
        clip,
        clip_2,
        scheduler,
    })
}

fn read_scheduler(path: &Path) -> Result<String> {
    let bytes = read_file_bounded(path, MAX_SCHEDULER)?;
    String::from_utf8(bytes).map_err(|_| Error::damaged(path, "it is not UTF-8 text"))
}

fn check_tokenizer(folder: &Path) -> Result<()> {
    let has = |name: &str| folder.join(name).is_file();
    if has("tokenizer.json") || (has("vocab.json") && has("merges.txt")) {
        return Ok(());
    }
    Err(Error::missing(
        folder,
        "tokenizer.json, or vocab.json and merges.txt",
    ))
}

/// Whether the parts fit each other.
fn check_parts(root: &Path, parts: &SdParts) -> Result<()> {
    let damaged = |reason: String| Err(Error::damaged(root, reason));
    let SdParts {
        unet,
        vae,
        clip,
        clip_2,
        ..
    } = parts;
    let width = |config: &Option<ClipConfig>| config.as_ref().map_or(0, |config| config.hidden);
    let second = clip_2.as_ref().map_or(0, |clip| clip.config.hidden);
    let text = width(clip) + second;
    if unet.cross_attention_dim != text {
        return damaged(format!(
            "its UNet expects text of width {}, the text encoders give {text}",
            unet.cross_attention_dim
        ));
    }
    let latent = vae.latent_channels;
    if unet.out_channels != latent {
        return damaged(format!(
            "its UNet predicts {} channels, the VAE has {latent}",
            unet.out_channels
        ));
    }
    // A mask and the masked picture's latents besides, for inpainting.
    if unet.in_channels != latent && unet.in_channels != 2 * latent + 1 {
        return Err(Error::unsupported(
            root,
            format!(
                "its UNet takes {} channels where text to image takes {latent} and inpainting {}; \
                 it is made for something else (depth, editing, enlarging), which is not built yet",
                unet.in_channels,
                2 * latent + 1
            ),
        ));
    }
    if let (Some(added), Some(clip)) = (unet.added_dim, clip_2) {
        let sizes = if parts.takes_aesthetic_score { 5 } else { 6 };
        let expected = clip.projection + sizes * unet.added_time_dim;
        if added != expected {
            return damaged(format!(
                "its UNet takes {added} numbers beside the text, pooled text and sizes are {expected}"
            ));
        }
    }
    Ok(())
}

/// A few tensors of a component against its configuration: enough to tell a wrong pair early.
fn check_component(component: Component, set: &WeightSet, parts: &SdParts) -> Result<()> {
    let check_shape = |name: &str, expected: &[usize]| {
        let shape = &set.get(name)?.shape;
        if shape == expected {
            return Ok(());
        }
        Err(Error::damaged(
            set.path(),
            format!(
                "tensor {name:?} has the shape {shape:?}, the configuration asks for {expected:?}"
            ),
        ))
    };
    let check_count = |prefix: &str, expected: usize| {
        let count = maps::count_blocks(set, prefix);
        if count == expected {
            return Ok(());
        }
        Err(Error::damaged(
            set.path(),
            format!("it has {count} blocks {prefix}*, the configuration asks for {expected}"),
        ))
    };
    let check_clip = |config: &ClipConfig| {
        let table = [config.vocab, config.hidden];
        check_shape("embeddings.token_embedding.weight", &table)?;
        check_count("encoder.layers.", config.layers)
    };
    match component {
        Component::Transformer => {
            let widths = &parts.unet.block_out_channels;
            let first = [widths[0], parts.unet.in_channels, 3, 3];
            check_shape("conv_in.weight", &first)?;
            check_count("down_blocks.", widths.len())
        }
        Component::Vae => {
            let widths = &parts.vae.block_out_channels;
            let widest = widths.last().copied().unwrap_or(0);
            let first = [widest, parts.vae.latent_channels, 3, 3];
            check_shape("decoder.conv_in.weight", &first)?;
            check_count("decoder.up_blocks.", widths.len())
        }
        Component::TextEncoder => parts.clip.as_ref().map_or(Ok(()), check_clip),
        Component::TextEncoder2 => match &parts.clip_2 {
            Some(clip) => check_clip(&clip.config),
            None => Ok(()),
        },
        // FLUX.1 alone has them.
        Component::ImageEncoder | Component::ImageEmbedder => Ok(()),
    }
}

/// The release. Releases with the same networks differ in what their scheduler says.
fn name_variant(root: &Path, family: Family, parts: &SdParts) -> Result<&'static str> {
    let scheduler: Value =
        serde_json::from_str(&without_infinities(&parts.scheduler)).map_err(|error| {
            let path = base_folder(root)
                .join("scheduler")
                .join("scheduler_config.json");
            Error::damaged(path, error.to_string())
        })?;
    let says = |name: &str, value: &str| scheduler.get(name).and_then(Value::as_str) == Some(value);
    let is_velocity = says("prediction_type", "v_prediction");
    let is_trailing = says("timestep_spacing", "trailing");
    let is_inpainting = parts.unet.in_channels != parts.vae.latent_channels;
    Ok(match family {
        Family::Sdxl if parts.clip.is_none() => "refiner",
        _ if is_inpainting => "inpaint",
        Family::Sdxl if is_velocity => "v-prediction",
        Family::Sdxl if is_trailing && says("_class_name", "EulerAncestralDiscreteScheduler") => {
            "turbo"
        }
        Family::Sdxl if is_trailing && says("_class_name", "EulerDiscreteScheduler") => "lightning",
        Family::Sdxl => "base",
        Family::Sd2 if is_velocity => "2.1",
        Family::Sd2 if is_trailing && says("_class_name", "EulerDiscreteScheduler") => "turbo",
        Family::Sd2 => "2.1-base",
        _ => "1.5",
    })
}
