//! A recognised model of LTX-Video, in a folder of the reference library or in its authors' file with
//! the text encoder beside it: its configurations, and where the weights of each component lie.
//!
//! Not here: LTX-2.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kinora_core::WeightFile;
use serde::Deserialize;

use crate::{
    Error, LtxConfig, LtxVaeConfig, Network, Result, T5Config, Tokenizer, WeightSet,
    detect::has_weights_name,
    glance::find_networks,
    json::read_config,
    layout::{Origin, base_folder, gather_weights, path_of},
    memory,
    search::{PartSources, Search, Wanted, list_elsewhere},
    shards::list_files,
};

/// A part of an LTX-Video model that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LtxComponent {
    /// The denoiser.
    Transformer,
    /// Latents to frames and back.
    Vae,
    /// T5.
    TextEncoder,
}

impl LtxComponent {
    /// Every component, in the order in which they are listed.
    pub const ALL: [LtxComponent; 3] = [
        LtxComponent::Transformer,
        LtxComponent::Vae,
        LtxComponent::TextEncoder,
    ];

    /// The name of its folder, and in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            LtxComponent::Transformer => "transformer",
            LtxComponent::Vae => "vae",
            LtxComponent::TextEncoder => "text_encoder",
        }
    }

    /// What it is, for messages.
    pub fn title(self) -> &'static str {
        match self {
            LtxComponent::Transformer => "the transformer",
            LtxComponent::Vae => "the VAE",
            LtxComponent::TextEncoder => "the T5 text encoder",
        }
    }
}

/// The configurations of an LTX-Video model.
#[derive(Clone, Debug, PartialEq)]
pub struct LtxParts {
    /// Denoiser.
    pub transformer: LtxConfig,
    /// Latents to frames.
    pub vae: LtxVaeConfig,
    /// Text encoder.
    pub text: T5Config,
}

/// Bytes per stage of a clip, besides weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LtxEstimate {
    /// Peak of the denoiser.
    pub activations: u64,
    /// Peak of the decoder.
    pub decode: u64,
    /// Peak of the decoder in the smallest tiles; where that is more, of whole frames.
    pub tiled_decode: u64,
}

/// Rows of text that the blocks attend to, at most in practice, of two texts.
const CONTEXT_ROWS: u64 = 2 * 256;

impl LtxParts {
    /// Whether it has the large transformer, which came with 0.9.7.
    pub fn is_13b(&self) -> bool {
        self.transformer.layers > 28
    }

    /// What a run of a clip of this size needs besides weights, in activations of
    /// `bytes_per_number`. The decode grows with the size of a frame only.
    pub fn estimate(
        &self,
        (width, height): (u32, u32),
        frames: u32,
        bytes_per_number: u64,
    ) -> LtxEstimate {
        let tokens = tokens_of(&self.vae, (width, height), frames);
        // Stream, norm, queries, keys and values with their packed copies, attention, output; or
        // the inside of the feed-forward layer, twice.
        let hidden = self.transformer.hidden() as u64;
        let context = (2 * CONTEXT_ROWS)
            .saturating_mul(hidden)
            .saturating_mul(self.transformer.layers as u64);
        let numbers = tokens.saturating_mul(11 * hidden).saturating_add(context);
        LtxEstimate {
            activations: numbers
                .saturating_mul(bytes_per_number)
                .saturating_add(64 << 20),
            decode: decode_bytes(&self.vae, (width, height), bytes_per_number),
            tiled_decode: smallest_decode(&self.vae, (width, height), frames, bytes_per_number),
        }
    }
}

/// Tokens of a clip, one for each latent.
pub(crate) fn tokens_of(vae: &LtxVaeConfig, (width, height): (u32, u32), frames: u32) -> u64 {
    let scale = vae.scale().max(1) as u64;
    let frames = u64::from(frames).saturating_sub(1) / vae.time_scale().max(1) as u64 + 1;
    (u64::from(width) / scale)
        .saturating_mul(u64::from(height) / scale)
        .saturating_mul(frames)
}

/// The decoder at its widest level: what is on its way of the frames of one latent frame, as it was
/// measured on the processor; what every convolution remembers; and the pixels of those frames.
pub fn decode_bytes(vae: &LtxVaeConfig, (width, height): (u32, u32), bytes_per_number: u64) -> u64 {
    let scale = vae.scale().max(1) as u64;
    let mut pixels = (u64::from(width) / scale).saturating_mul(u64::from(height) / scale);
    let mut frames = 1u64;
    let (mut widest, mut remembered) = (0u64, 0u64);
    let levels = std::iter::once((vae.decoder_width, vae.decoder_middle, None));
    let ups = vae
        .up
        .iter()
        .map(|level| (level.width, level.blocks, level.grow));
    for (channels, blocks, grow) in levels.chain(ups) {
        if let Some([t, h, w]) = grow {
            pixels = pixels.saturating_mul((h * w) as u64);
            frames *= t as u64;
        }
        let row = pixels.saturating_mul(channels as u64);
        // Input, norm, padded and packed copies, results, sums, and what waits for a frame ahead.
        widest = widest.max(row.saturating_mul(30 * frames));
        // Two convolutions of two frames each, and what waits for them.
        remembered = remembered.saturating_add(row.saturating_mul(6 * (blocks as u64 + 1)));
    }
    // Twice: as patches and as pixels.
    let made = u64::from(width)
        .saturating_mul(height.into())
        .saturating_mul(2 * 3 * vae.time_scale() as u64);
    widest
        .saturating_add(remembered)
        .saturating_add(made)
        .saturating_mul(bytes_per_number)
        .saturating_add(32 << 20)
}

/// What decoding takes in tiles of `side` pixels: one of them on its way, and what waits.
pub fn tiled_decode(
    vae: &LtxVaeConfig,
    (width, height): (u32, u32),
    frames: u32,
    side: u32,
    bytes_per_number: u64,
) -> u64 {
    let tile = (side.min(width), side.min(height));
    decode_bytes(vae, tile, bytes_per_number).saturating_add(memory::tiles_waiting(
        (width, height),
        frames,
        side,
    ))
}

/// The least that a clip can be decoded with: in the smallest tiles, or whole.
pub(crate) fn smallest_decode(
    vae: &LtxVaeConfig,
    size: (u32, u32),
    frames: u32,
    bytes_per_number: u64,
) -> u64 {
    tiled_decode(vae, size, frames, memory::SMALLEST_SIDE, bytes_per_number).min(decode_bytes(
        vae,
        size,
        bytes_per_number,
    ))
}

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub struct LtxLayout {
    /// The folder or file that was recognised.
    pub root: PathBuf,
    /// Size, and the first release of this kind: `2b-0.9.5` is 0.9.6 and 0.9.8 as well, which
    /// differ in their numbers only, and so do distilled weights.
    pub variant: String,
    /// Configurations.
    pub parts: LtxParts,
    /// Weight files; their hashes are not known yet.
    pub weights: Vec<WeightFile>,
    /// Bytes of the tensors of each component, in the order of [`LtxComponent::ALL`].
    pub component_bytes: [u64; 3],
    /// Files of parts that lie outside of the model's folder or were chosen, by component.
    pub elsewhere: BTreeMap<String, PathBuf>,
    pub(crate) origins: [Origin; 3],
}

/// `model_index.json`, as far as it counts.
#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class: String,
}

/// The part of a text encoder's configuration that tells what it is.
#[derive(Deserialize)]
struct ModelType {
    #[serde(default)]
    model_type: String,
}

/// Classes of the reference library whose folders are read here. They hold the same networks.
pub const CLASSES: [&str; 3] = [
    "LTXPipeline",
    "LTXImageToVideoPipeline",
    "LTXConditionPipeline",
];

/// Whether a folder or a file says that it is an LTX-Video model.
pub fn is_ltx(root: &Path) -> bool {
    let index = root.join("model_index.json");
    if index.is_file() {
        return read_config::<ModelIndex>(&index)
            .is_ok_and(|index| CLASSES.contains(&index.class.as_str()));
    }
    holds_transformer(root, |config| config.audio.is_none())
}

/// Whether a file, or one in a folder, holds a transformer that is wanted.
pub(crate) fn holds_transformer(root: &Path, is_wanted: impl Fn(&LtxConfig) -> bool) -> bool {
    if !root.is_file() {
        // Several are as well: which of them is meant is asked when they are opened.
        return list_holders(root, is_wanted).is_ok_and(|files| !files.is_empty());
    }
    let parts = WeightSet::open_file(root).and_then(|set| find_networks(&set));
    parts.is_ok_and(|parts| {
        parts
            .iter()
            .any(|part| matches!(&part.network, Network::Ltx(config) if is_wanted(config)))
    })
}

/// Recognises a folder of the reference library, or a file (or a folder with one) that holds a
/// transformer and a VAE, with the text encoder beside it.
pub fn detect_ltx(root: &Path) -> Result<LtxLayout> {
    detect_with(root, &PartSources::default())
}

/// The same, with parts from other places too.
pub(crate) fn detect_with(root: &Path, sources: &PartSources) -> Result<LtxLayout> {
    let index = root.join("model_index.json");
    let (parts, origins) = if root.is_file() {
        read_file(root, sources)?
    } else if index.is_file() {
        let index: ModelIndex = read_config(&index)?;
        if !CLASSES.contains(&index.class.as_str()) {
            return Err(Error::unknown_layout(
                root,
                format!("it is a {}, which is no LTX-Video model", index.class),
            ));
        }
        let folder = |component: LtxComponent| Origin::Folder(root.join(component.as_str()));
        let (mut parts, mut origins) = (read_parts(root)?, LtxComponent::ALL.map(folder));
        let search = Search {
            folder: root,
            same: None,
            sources,
        };
        if let Some((origin, vae)) = search.find_chosen(&VAE, &choose_vae)? {
            (origins[LtxComponent::Vae as usize], parts.vae) = (origin, vae);
        }
        if let Some((origin, text)) =
            search.find_chosen(&TEXT, &|network| choose_text(network, &parts.transformer))?
        {
            (origins[LtxComponent::TextEncoder as usize], parts.text) = (origin, text);
        }
        check_parts(root, &parts)?;
        (parts, origins)
    } else {
        read_file(&find_file(root, |config| config.audio.is_none())?, sources)?
    };
    let named = LtxComponent::ALL.map(LtxComponent::as_str).into_iter();
    let mut layout = LtxLayout {
        elsewhere: list_elsewhere(root, sources, named.zip(&origins)),
        root: root.to_owned(),
        variant: name_variant(&parts),
        parts,
        weights: Vec::new(),
        component_bytes: [0; 3],
        origins,
    };
    (layout.weights, layout.component_bytes) =
        gather_weights(root, LtxComponent::ALL, LtxComponent::as_str, |component| {
            layout.open(component).map(Some)
        })?;
    let is_built_in = !index.is_file() && Tokenizer::T5.fits_built_in(layout.parts.text.vocab);
    if !is_built_in && !layout.has_tokenizer_files() {
        let folder = layout.tokenizer_folder();
        return Err(Error::missing(folder, "tokenizer.json, or spiece.model"));
    }
    Ok(layout)
}

/// The one file of a folder whose transformer is wanted.
pub(crate) fn find_file(root: &Path, is_wanted: impl Fn(&LtxConfig) -> bool) -> Result<PathBuf> {
    let mut found = list_holders(root, is_wanted)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::unknown_layout(
            root,
            "there is neither a model_index.json nor an LTX file of this kind in it",
        )),
        _ => Err(Error::unknown_layout(
            root,
            "there are several transformers in it; name one of the files instead of the folder",
        )),
    }
}

/// The files of a folder whose transformer is wanted.
fn list_holders(root: &Path, is_wanted: impl Fn(&LtxConfig) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in list_files(root)? {
        let path = root.join(&name);
        if !has_weights_name(&name) {
            continue;
        }
        let parts = find_networks(&WeightSet::open_file(&path)?)?;
        let is_found = parts
            .iter()
            .any(|part| matches!(&part.network, Network::Ltx(config) if is_wanted(config)));
        if is_found {
            found.push(path);
        }
    }
    Ok(found)
}

const VAE: Wanted = Wanted {
    name: "vae",
    title: "the VAE",
    likely: &["ltx"],
    unlikely: &[],
};

const TEXT: Wanted = Wanted {
    name: "text_encoder",
    title: "the T5 text encoder",
    likely: &["t5xxl", "t5-v1_1"],
    unlikely: &["flan", "chroma", "pile"],
};

fn choose_vae(network: &Network) -> Option<LtxVaeConfig> {
    match network {
        Network::LtxVae(release) => Some(LtxVaeConfig::published(*release)),
        _ => None,
    }
}

/// A T5 of the width that the network reads.
fn choose_text(network: &Network, transformer: &LtxConfig) -> Option<T5Config> {
    match network {
        Network::T5 {
            config,
            is_umt5: false,
        } if Some(config.hidden) == transformer.caption_channels => Some(config.clone()),
        _ => None,
    }
}

/// A file with transformer and VAE; the text encoder is in it or beside it.
fn read_file(file: &Path, sources: &PartSources) -> Result<(LtxParts, [Origin; 3])> {
    let folder = base_folder(file);
    let set = WeightSet::open_file(file)?;
    let transformer = find_networks(&set)?
        .into_iter()
        .find_map(|part| match &part.network {
            Network::Ltx(config) => {
                let config = config.clone();
                Some((part, config))
            }
            _ => None,
        });
    let Some((part, transformer)) = transformer else {
        return Err(Error::unknown_layout(
            file,
            "its tensors have none of the names that LTX-Video uses",
        ));
    };
    let search = Search {
        folder,
        same: Some(&set),
        sources,
    };
    let (vae_origin, vae) = search.find(&VAE, LtxVaeConfig::read, choose_vae)?;
    let (text_origin, text) = search.find(&TEXT, T5Config::read, |network| {
        choose_text(network, &transformer)
    })?;
    let parts = LtxParts {
        transformer,
        vae,
        text,
    };
    check_parts(file, &parts)?;
    let file = file.to_owned();
    Ok((
        parts,
        [Origin::File { file, part }, vae_origin, text_origin],
    ))
}

fn read_parts(root: &Path) -> Result<LtxParts> {
    let config_of = |component: LtxComponent| {
        let path = root.join(component.as_str()).join("config.json");
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::missing(
                root,
                format!("{} (folder {}/)", component.title(), component.as_str()),
            )),
        }
    };
    let text_path = config_of(LtxComponent::TextEncoder)?;
    let text_type: ModelType = read_config(&text_path)?;
    if text_type.model_type != "t5" {
        return Err(Error::unsupported(
            &text_path,
            format!(
                "its text encoder is of the type {:?}, LTX-Video uses \"t5\"",
                text_type.model_type
            ),
        ));
    }
    let parts = LtxParts {
        transformer: LtxConfig::read(&config_of(LtxComponent::Transformer)?)?,
        vae: LtxVaeConfig::read(&config_of(LtxComponent::Vae)?)?,
        text: T5Config::read(&text_path)?,
    };
    check_parts(root, &parts)?;
    Ok(parts)
}

/// Whether the components fit each other.
fn check_parts(root: &Path, parts: &LtxParts) -> Result<()> {
    let refuse = |reason: String| Err(Error::damaged(root, reason));
    let transformer = &parts.transformer;
    if transformer.audio.is_some() {
        return refuse("its transformer makes sound too, which is LTX-2".to_owned());
    }
    if transformer.in_channels != parts.vae.latent_channels {
        return refuse(format!(
            "its transformer takes {} channels, the VAE's latents have {}",
            transformer.in_channels, parts.vae.latent_channels
        ));
    }
    if transformer.caption_channels != Some(parts.text.hidden) {
        return refuse(format!(
            "its transformer expects text of width {:?}, the text encoder gives {}",
            transformer.caption_channels, parts.text.hidden
        ));
    }
    if transformer.cross_attention_dim != transformer.hidden() {
        return refuse(format!(
            "its transformer attends to text of width {} where the projected one has {}",
            transformer.cross_attention_dim,
            transformer.hidden()
        ));
    }
    Ok(())
}

/// Size and release, from what the parts are.
fn name_variant(parts: &LtxParts) -> String {
    if parts.is_13b() {
        return "13b-0.9.7".to_owned();
    }
    let is_noisy = parts.vae.up.iter().any(|level| level.has_noise);
    let release = match (parts.vae.is_timed, is_noisy) {
        (false, _) => "0.9.0",
        (true, true) => "0.9.1",
        (true, false) => "0.9.5",
    };
    format!("2b-{release}")
}

impl LtxLayout {
    /// Opens a component's weights under canonical names.
    pub fn open(&self, component: LtxComponent) -> Result<WeightSet> {
        let set = open(&self.origins[component as usize], component.title())?;
        Ok(match component {
            // The token table is stored once, under either name.
            LtxComponent::TextEncoder if !set.has("shared.weight") => {
                set.renamed_by(|name| match name {
                    "encoder.embed_tokens.weight" => Some("shared.weight".to_owned()),
                    other => Some(other.to_owned()),
                })
            }
            LtxComponent::TextEncoder => set.renamed_by(|name| {
                (name != "encoder.embed_tokens.weight").then(|| name.to_owned())
            }),
            LtxComponent::Transformer | LtxComponent::Vae => set,
        })
    }

    /// Whether a network may stand for one of its parts, by the name of the part's folder.
    pub(crate) fn takes(&self, part: &str, network: &Network) -> bool {
        match part {
            "vae" => choose_vae(network)
                .is_some_and(|vae| vae.latent_channels == self.parts.vae.latent_channels),
            "text_encoder" => choose_text(network, &self.parts.transformer).is_some(),
            _ => false,
        }
    }

    /// Where a weight file of this model lies.
    pub fn weight_path(&self, file: &WeightFile) -> PathBuf {
        path_of(&self.root, &self.elsewhere, file)
    }

    /// The folder of the tokenizer's files.
    pub fn tokenizer_folder(&self) -> PathBuf {
        base_folder(&self.root).join("tokenizer")
    }

    /// Whether the tokenizer's files lie there. Where they do not, the text is cut by T5's tokenizer
    /// that comes with the program.
    pub fn has_tokenizer_files(&self) -> bool {
        Tokenizer::T5.is_in(&self.tokenizer_folder())
    }

    /// The scheduler's configuration, where there is one; else the schedule is
    /// [`of_ltx`](crate::SchedulerConfig::of_ltx).
    pub fn scheduler_path(&self) -> Option<PathBuf> {
        scheduler_path(&self.root)
    }

    /// Bytes of a component's tensors.
    pub fn bytes_of(&self, component: LtxComponent) -> u64 {
        self.component_bytes[component as usize]
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.component_bytes.iter().sum()
    }
}

/// A component's tensors under canonical names, wherever they are.
pub(crate) fn open(origin: &Origin, title: &str) -> Result<WeightSet> {
    match origin {
        Origin::Absent => Err(Error::missing("", title)),
        Origin::Folder(folder) => WeightSet::open_folder(folder),
        Origin::File { file, part } => Ok(part.open(&WeightSet::open_file(file)?)?.set),
    }
}

/// The scheduler's configuration beside a model.
pub(crate) fn scheduler_path(root: &Path) -> Option<PathBuf> {
    let path = base_folder(root)
        .join("scheduler")
        .join("scheduler_config.json");
    path.is_file().then_some(path)
}
