//! A model of Wan in a folder of the reference library.

use std::path::Path;

use serde::Deserialize;

use super::{
    Found, WanComponent, WanInput, WanParts,
    files::{choose_text, choose_vae, choose_vision, wanted},
};
use crate::{
    ClipVisionParts, Error, LatentStats, Result, T5Config, WanConfig, WanVaeConfig,
    json::read_config,
    layout::Origin,
    search::{PartSources, Search},
};

/// Classes of the reference library whose folders are read here.
pub const CLASSES: [&str; 2] = ["WanPipeline", "WanImageToVideoPipeline"];

/// `model_index.json`, as far as it counts.
#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class: String,
    #[serde(default)]
    boundary_ratio: Option<f64>,
    #[serde(default)]
    expand_timesteps: bool,
}

/// The part of a text encoder's configuration that tells what it is.
#[derive(Deserialize)]
struct ModelType {
    #[serde(default)]
    model_type: String,
}

/// Whether a folder says that it is a Wan model.
pub(super) fn is_wan(root: &Path) -> bool {
    read_config::<ModelIndex>(&root.join("model_index.json"))
        .is_ok_and(|index| CLASSES.contains(&index.class.as_str()))
}

/// Reads what a folder says.
pub(super) fn read(root: &Path, sources: &PartSources) -> Result<Found> {
    let index: ModelIndex = read_config(&root.join("model_index.json"))?;
    if !CLASSES.contains(&index.class.as_str()) {
        return Err(Error::unknown_layout(
            root,
            format!("it is a {}, which is no Wan model", index.class),
        ));
    }
    let mut parts = read_parts(root, &index)?;
    let mut origins = WanComponent::ALL.map(|component| match parts.has(component) {
        true => Origin::Folder(root.join(component.as_str())),
        false => Origin::Absent,
    });
    let search = Search {
        folder: root,
        same: None,
        sources,
    };
    let transformer = parts.transformer.clone();
    if let Some((origin, vae)) = search.find_chosen(&wanted(WanComponent::Vae), &|network| {
        choose_vae(network, &transformer)
    })? {
        (origins[WanComponent::Vae as usize], parts.vae) = (origin, vae);
    }
    if let Some((origin, text)) = search
        .find_chosen(&wanted(WanComponent::TextEncoder), &|network| {
            choose_text(network, &transformer)
        })?
    {
        (origins[WanComponent::TextEncoder as usize], parts.text) = (origin, text);
    }
    if let Some(vision) = &mut parts.vision
        && let Some((origin, found)) = search
            .find_chosen(&wanted(WanComponent::ImageEncoder), &|network| {
                choose_vision(network, &transformer)
            })?
    {
        (origins[WanComponent::ImageEncoder as usize], *vision) = (origin, found);
    }
    Ok(Found { parts, origins })
}

fn read_parts(root: &Path, index: &ModelIndex) -> Result<WanParts> {
    let config_of = |component: WanComponent| {
        let path = root.join(component.as_str()).join("config.json");
        path.is_file().then_some(path)
    };
    let needed = |component: WanComponent| {
        config_of(component).ok_or_else(|| {
            Error::missing(
                root,
                format!("{} (folder {}/)", component.title(), component.as_str()),
            )
        })
    };
    let transformer = WanConfig::read(&needed(WanComponent::Transformer)?)?;
    let transformer_2 = match (index.boundary_ratio, config_of(WanComponent::Transformer2)) {
        (Some(_), Some(path)) => Some(WanConfig::read(&path)?),
        (Some(_), None) => {
            needed(WanComponent::Transformer2)?;
            None
        }
        (None, _) => None,
    };
    let vae_path = needed(WanComponent::Vae)?;
    let vae = WanVaeConfig::read(&vae_path)?;
    let stats = LatentStats::read(&vae_path, vae.latent_channels)?;
    let text_path = needed(WanComponent::TextEncoder)?;
    let text_type: ModelType = read_config(&text_path)?;
    if text_type.model_type != "umt5" {
        return Err(Error::unsupported(
            &text_path,
            format!(
                "its text encoder is of the type {:?}, Wan uses \"umt5\"",
                text_type.model_type
            ),
        ));
    }
    let vision = match transformer.image_dim {
        Some(_) => Some(ClipVisionParts::read(&needed(WanComponent::ImageEncoder)?)?),
        None => None,
    };
    let latents = vae.latent_channels;
    let input = if index.expand_timesteps {
        WanInput::FirstFrame
    } else if transformer.in_channels == latents {
        WanInput::Text
    } else {
        WanInput::Channels
    };
    Ok(WanParts {
        transformer,
        transformer_2,
        boundary: index.boundary_ratio,
        vae,
        stats,
        text: T5Config::read(&text_path)?,
        vision,
        input,
    })
}
