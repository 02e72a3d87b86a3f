//! A model of Wan in files: a transformer, or the two of Wan 2.2, as its authors, ComfyUI and GGUF
//! converters write them, with VAE, text encoder and vision encoder beside it.
//!
//! The two experts have the same names and shapes. Which is which stands in their files' names only
//! (`high_noise`, `low_noise`); a file that says so never runs without its other half.

use std::path::{Path, PathBuf};

use super::{Found, WanComponent, WanInput, WanParts};
use crate::{
    ClipVisionParts, Error, FilePart, LatentStats, Network, Result, T5Config, WanConfig,
    WanVaeConfig, WeightSet,
    detect::has_weights_name,
    glance::{find_networks, glance},
    layout::{Origin, base_folder},
    search::{PartSources, Search, Wanted},
    shards::list_files,
};

/// Share of the training's times from which on upwards the first expert is used: with a first
/// frame, and from text alone (`wan/configs/wan_{i2v,t2v}_A14B.py` of the authors).
const BOUNDARIES: (f64, f64) = (0.9, 0.875);

/// Whether a file, or one in a folder, holds a transformer of Wan.
pub(super) fn is_wan(root: &Path) -> bool {
    find_transformers(root).is_ok_and(|found| !found.is_empty())
}

/// Reads what files say.
pub(super) fn read(root: &Path, sources: &PartSources) -> Result<Found> {
    let folder = base_folder(root);
    let (first, second) = replace_experts(pair(root, sources)?, sources)?;
    let transformer = first.config(folder, WanComponent::Transformer)?;
    let transformer_2 = (second.as_ref())
        .map(|second| second.config(folder, WanComponent::Transformer2))
        .transpose()?;
    let own = WeightSet::open_file(&first.file)?;
    let parts = Beside(Search {
        folder,
        same: Some(&own),
        sources,
    });
    let (vae_origin, vae) = parts.find(WanComponent::Vae, WanVaeConfig::read, |network| {
        choose_vae(network, &transformer)
    })?;
    let (text_origin, text) = parts.find(WanComponent::TextEncoder, T5Config::read, |network| {
        choose_text(network, &transformer)
    })?;
    let (image_origin, vision) = match transformer.image_dim {
        None => (Origin::Absent, None),
        Some(_) => {
            let read = ClipVisionParts::read;
            let (origin, vision) = parts.find(WanComponent::ImageEncoder, read, |network| {
                choose_vision(network, &transformer)
            })?;
            (origin, Some(vision))
        }
    };
    let latents = vae.latent_channels;
    let input = match transformer.in_channels == latents {
        // The small model of 2.2 is the one with the VAE of 2.2.
        true if vae.is_residual => WanInput::FirstFrame,
        true => WanInput::Text,
        false => WanInput::Channels,
    };
    let boundary = transformer_2.as_ref().map(|_| match input {
        WanInput::Channels => BOUNDARIES.0,
        WanInput::Text | WanInput::FirstFrame => BOUNDARIES.1,
    });
    let stats = match parts.config_path(WanComponent::Vae) {
        Some(path) => LatentStats::read(&path, latents)?,
        None => LatentStats::published(&vae).ok_or_else(|| {
            Error::unsupported(
                folder,
                format!("nothing tells the mean of its VAE's {latents} channels (vae/config.json)"),
            )
        })?,
    };
    let second_origin = second.map_or(Origin::Absent, Transformer::into_origin);
    Ok(Found {
        parts: WanParts {
            transformer,
            transformer_2,
            boundary,
            vae,
            stats,
            text,
            vision,
            input,
        },
        origins: [
            first.into_origin(),
            second_origin,
            vae_origin,
            text_origin,
            image_origin,
        ],
    })
}

/// A transformer of Wan in a file.
struct Transformer {
    file: PathBuf,
    part: FilePart,
    config: WanConfig,
}

impl Transformer {
    /// The transformer in a file, if there is one.
    fn find(file: &Path) -> Result<Option<Self>> {
        let parts = find_networks(&WeightSet::open_file(file)?)?;
        Ok(parts.into_iter().find_map(|part| match &part.network {
            Network::Wan(config) => Some(Self {
                file: file.to_owned(),
                config: config.clone(),
                part,
            }),
            _ => None,
        }))
    }

    /// Its numbers. A configuration beside the file knows what no shape tells: the heads.
    fn config(&self, folder: &Path, component: WanComponent) -> Result<WanConfig> {
        let beside = [component, WanComponent::Transformer]
            .map(|component| folder.join(component.as_str()).join("config.json"));
        let mut config = self.config.clone();
        if let Some(beside) = beside.iter().find(|path| path.is_file()) {
            let told = WanConfig::read(beside)?;
            if told.hidden() == config.hidden() {
                (config.heads, config.head_dim) = (told.heads, told.head_dim);
            }
        }
        (config.check()).map_err(|reason| Error::damaged(&self.file, reason))?;
        Ok(config)
    }

    fn into_origin(self) -> Origin {
        Origin::File {
            file: self.file,
            part: self.part,
        }
    }

    fn half(&self) -> Option<Half> {
        Half::of(&self.file)
    }
}

/// Which expert of Wan 2.2 a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

impl Half {
    /// `wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors`, `Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf`,
    /// `Wan2_2-I2V-A14B-HIGH_fp8_e4m3fn.safetensors`.
    fn of(file: &Path) -> Option<Self> {
        let name = stem(file);
        let words: Vec<&str> = name
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .collect();
        let says = |word: &str, compound: &str| words.contains(&word) || words.contains(&compound);
        match (says("high", "highnoise"), says("low", "lownoise")) {
            (true, false) => Some(Self::High),
            (false, true) => Some(Self::Low),
            _ => None,
        }
    }

    /// The name of the other half's file.
    fn rename(self, file: &Path) -> String {
        match self {
            Self::High => stem(file).replace("high", "low"),
            Self::Low => stem(file).replace("low", "high"),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::High => "high-noise",
            Self::Low => "low-noise",
        }
    }
}

fn stem(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

/// Names of a folder's weight files.
fn list_weights(folder: &Path) -> Result<Vec<PathBuf>> {
    let names = list_files(folder)?.into_iter();
    Ok(names
        .filter(|name| has_weights_name(name))
        .map(|name| folder.join(name))
        .collect())
}

/// The transformers of Wan in a file, or in a folder's files.
fn find_transformers(root: &Path) -> Result<Vec<Transformer>> {
    if root.is_file() {
        return Ok(Transformer::find(root)?.into_iter().collect());
    }
    let mut found = Vec::new();
    let mut fault = None;
    for file in list_weights(root)? {
        match Transformer::find(&file) {
            Ok(transformer) => found.extend(transformer),
            Err(error) => fault = Some(error),
        }
    }
    match fault {
        // A damaged file counts when there is nothing else.
        Some(fault) if found.is_empty() => Err(fault),
        _ => Ok(found),
    }
}

/// The transformer that was named, and its other half where it has one; the noisy half first.
fn pair(root: &Path, sources: &PartSources) -> Result<(Transformer, Option<Transformer>)> {
    let folder = base_folder(root);
    let mut found = find_transformers(root)?;
    if root.is_dir() && found.len() == 2 {
        let [a, b] = [found.remove(0), found.remove(0)];
        return match (a.half(), b.half()) {
            (Some(Half::High), Some(Half::Low)) => Ok((a, Some(b))),
            (Some(Half::Low), Some(Half::High)) => Ok((b, Some(a))),
            _ => Err(refuse_several(root)),
        };
    }
    let named = match found.len() {
        1 => found.remove(0),
        0 => {
            return Err(Error::unknown_layout(
                root,
                "its tensors have none of the names that Wan uses",
            ));
        }
        _ => return Err(refuse_several(root)),
    };
    let Some(half) = named.half() else {
        return Ok((named, None));
    };
    // The 2.2 experts come in twos; nothing else in a name says "high" of a single network.
    if named.config.image_dim.is_some() {
        return Ok((named, None));
    }
    // A choice says which is which, whatever else lies there.
    let place = match half {
        Half::High => WanComponent::Transformer2,
        Half::Low => WanComponent::Transformer,
    };
    if let Some(file) = sources.chosen.get(place.as_str())
        && let Some(other) = Transformer::find(file)?.filter(|other| other.config == named.config)
    {
        return Ok(match half {
            Half::High => (named, Some(other)),
            Half::Low => (other, Some(named)),
        });
    }
    let wanted = half.rename(&named.file);
    let other = |file: &PathBuf| {
        let other = Half::of(file);
        other.is_some() && other != Some(half)
    };
    let mut candidates: Vec<PathBuf> = list_weights(folder)?.into_iter().filter(other).collect();
    candidates.retain(|file| glance(file).is_model());
    if let Some(same) = candidates.iter().position(|file| stem(file) == wanted) {
        candidates = vec![candidates.swap_remove(same)];
    }
    let mut others = Vec::new();
    for file in candidates {
        let found = Transformer::find(&file)?;
        others.extend(found.filter(|other| other.config == named.config));
    }
    let missing = match half {
        Half::High => Half::Low,
        Half::Low => Half::High,
    };
    match (others.len(), half) {
        (1, Half::High) => Ok((named, others.pop())),
        (1, Half::Low) => Ok((others.remove(0), Some(named))),
        (0, _) => Err(Error::missing(
            folder,
            format!(
                "the {} expert, the other half of {}",
                missing.title(),
                named.file.file_name().unwrap_or_default().display()
            ),
        )),
        _ => Err(Error::unknown_layout(
            folder,
            format!(
                "there are several {} experts in it, and none is named like {}",
                missing.title(),
                named.file.file_name().unwrap_or_default().display()
            ),
        )),
    }
}

fn refuse_several(root: &Path) -> Error {
    Error::unknown_layout(
        root,
        "there are several transformers in it; name one of the files instead of the folder",
    )
}

/// A VAE whose latents the network takes.
pub(super) fn choose_vae(network: &Network, transformer: &WanConfig) -> Option<WanVaeConfig> {
    match network {
        Network::WanVae(config) if config.latent_channels == transformer.out_channels => {
            Some(config.clone())
        }
        _ => None,
    }
}

/// A UMT5 of the width that the network reads.
pub(super) fn choose_text(network: &Network, transformer: &WanConfig) -> Option<T5Config> {
    match network {
        Network::T5 {
            config,
            is_umt5: true,
        } if config.hidden == transformer.text_dim => Some(config.clone()),
        _ => None,
    }
}

/// The only one that Wan uses; nothing else is as wide.
pub(super) fn choose_vision(network: &Network, transformer: &WanConfig) -> Option<ClipVisionParts> {
    match network {
        Network::ClipVision(config) if Some(config.hidden) == transformer.image_dim => {
            Some(ClipVisionParts::vit_h())
        }
        _ => None,
    }
}

/// A part as it is looked for. Qwen-Image's VAE has the shapes of Wan 2.1's.
pub(super) fn wanted(component: WanComponent) -> Wanted {
    let plain = Wanted::plain((component.as_str(), component.title()));
    match component {
        WanComponent::Vae => plain.named(&["wan"], &["qwen"]),
        WanComponent::TextEncoder => plain.named(&["umt5"], &[]),
        _ => plain,
    }
}

/// What lies beside a transformer.
struct Beside<'a>(Search<'a>);

impl Beside<'_> {
    fn config_path(&self, component: WanComponent) -> Option<PathBuf> {
        let path = self.0.folder.join(component.as_str()).join("config.json");
        path.is_file().then_some(path)
    }

    /// A component's folder with weights in it, else a file that has it. `choose` tells the numbers
    /// of a network that is wanted; a configuration beside the file counts more.
    fn find<T>(
        &self,
        component: WanComponent,
        read: impl Fn(&Path) -> Result<T>,
        choose: impl Fn(&Network) -> Option<T>,
    ) -> Result<(Origin, T)> {
        let wanted = wanted(component);
        if let Some(chosen) = self.0.find_chosen(&wanted, &choose)? {
            return Ok(chosen);
        }
        let told = self.config_path(component);
        let own = self.0.folder.join(component.as_str());
        if let Some(path) = &told
            && list_weights(&own).is_ok_and(|files| !files.is_empty())
        {
            return Ok((Origin::Folder(own), read(path)?));
        }
        let (origin, config) = self.0.find(&wanted, &read, choose)?;
        let config = match &told {
            Some(path) => read(path)?,
            None => config,
        };
        Ok((origin, config))
    }
}

/// Puts chosen files in the places of the experts.
fn replace_experts(
    (mut first, mut second): (Transformer, Option<Transformer>),
    sources: &PartSources,
) -> Result<(Transformer, Option<Transformer>)> {
    let chosen = |component: WanComponent, config: &WanConfig| -> Result<Option<Transformer>> {
        let Some(file) = sources.chosen.get(component.as_str()) else {
            return Ok(None);
        };
        let found = Transformer::find(file)?.filter(|other| other.config == *config);
        found.map(Some).ok_or_else(|| {
            Error::unsupported(
                file,
                format!(
                    "it is not {} of this model: its sizes are others",
                    component.title()
                ),
            )
        })
    };
    if let Some(other) = &mut second
        && let Some(found) = chosen(WanComponent::Transformer2, &other.config)?
    {
        *other = found;
    }
    if let Some(found) = chosen(WanComponent::Transformer, &first.config)? {
        first = found;
    }
    Ok((first, second))
}
