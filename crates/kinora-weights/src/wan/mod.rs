//! A recognised model of Wan 2.1 or 2.2, in a folder of the reference library ([`folders`]) or in
//! the files that its authors, ComfyUI and GGUF converters write ([`files`]): its configurations,
//! and where the weights of each component lie.

mod files;
mod folders;
mod memory;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kinora_core::WeightFile;

pub use self::{
    folders::CLASSES,
    memory::{ClipEstimate, decode_bytes},
};
use crate::{
    ClipVisionParts, Error, LatentStats, Network, Result, T5Config, WanConfig, WanVaeConfig,
    WeightSet,
    layout::{
        Origin, base_folder, gather_weights, path_of, read_stored_tokenizer, stores_tokenizer,
    },
    ltx::scheduler_path,
    search::{PartSources, list_elsewhere},
};

/// A part of a Wan model that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WanComponent {
    /// The denoiser; where there are two, the one of the noisy steps.
    Transformer,
    /// The denoiser of the steps with little noise.
    Transformer2,
    /// Latents to frames and back.
    Vae,
    /// UMT5.
    TextEncoder,
    /// The vision side of CLIP.
    ImageEncoder,
}

impl WanComponent {
    /// Every component, in the order in which they are listed.
    pub const ALL: [WanComponent; 5] = [
        WanComponent::Transformer,
        WanComponent::Transformer2,
        WanComponent::Vae,
        WanComponent::TextEncoder,
        WanComponent::ImageEncoder,
    ];

    /// The name of its folder, and in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            WanComponent::Transformer => "transformer",
            WanComponent::Transformer2 => "transformer_2",
            WanComponent::Vae => "vae",
            WanComponent::TextEncoder => "text_encoder",
            WanComponent::ImageEncoder => "image_encoder",
        }
    }

    /// What it is, for messages.
    pub fn title(self) -> &'static str {
        match self {
            WanComponent::Transformer => "the transformer",
            WanComponent::Transformer2 => "the second transformer",
            WanComponent::Vae => "the VAE",
            WanComponent::TextEncoder => "the UMT5 text encoder",
            WanComponent::ImageEncoder => "the CLIP image encoder",
        }
    }
}

/// How a clip's frames reach the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WanInput {
    /// Not at all: text to video.
    Text,
    /// As further channels: a mask, and the latents of the given frames among empty ones.
    Channels,
    /// In place of the noise of the first latent frame, with a time of its own for every token; or
    /// not at all. TI2V-5B.
    FirstFrame,
}

/// The configurations of a Wan model.
#[derive(Clone, Debug, PartialEq)]
pub struct WanParts {
    /// Denoiser.
    pub transformer: WanConfig,
    /// The second denoiser, where there is one.
    pub transformer_2: Option<WanConfig>,
    /// Share of the training's times from which on upwards the first denoiser is used.
    pub boundary: Option<f64>,
    /// Latents to frames.
    pub vae: WanVaeConfig,
    /// Mean and deviation of the latents.
    pub stats: LatentStats,
    /// Text encoder.
    pub text: T5Config,
    /// Picture encoder, where there is one.
    pub vision: Option<ClipVisionParts>,
    /// How given frames go in.
    pub input: WanInput,
}

impl WanParts {
    /// What widths and heights are multiples of, in pixels.
    pub fn size_step(&self) -> usize {
        let [_, rows, columns] = self.transformer.patch_size;
        rows.max(columns) * self.vae.scale()
    }

    /// Whether the model was made for a first and a last frame together.
    pub fn needs_last_frame(&self) -> bool {
        self.transformer.image_positions.is_some()
    }

    /// Whether it takes a last frame at all.
    pub fn takes_last_frame(&self) -> bool {
        self.input == WanInput::Channels
            && (self.transformer.image_dim.is_none() || self.needs_last_frame())
    }

    /// Whether it makes nothing without a first frame.
    pub fn needs_first_frame(&self) -> bool {
        self.input == WanInput::Channels
    }

    fn has(&self, component: WanComponent) -> bool {
        match component {
            WanComponent::Transformer2 => self.transformer_2.is_some(),
            WanComponent::ImageEncoder => self.vision.is_some(),
            _ => true,
        }
    }
}

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub struct WanLayout {
    /// The folder or file that was recognised.
    pub root: PathBuf,
    /// Release and task: `2.2-i2v-a14b`.
    pub variant: String,
    /// Configurations.
    pub parts: WanParts,
    /// Weight files; their hashes are not known yet.
    pub weights: Vec<WeightFile>,
    /// Bytes of the tensors of each component, in the order of [`WanComponent::ALL`].
    pub component_bytes: [u64; 5],
    /// Files of parts that lie outside of the model's folder or were chosen, by component.
    pub elsewhere: BTreeMap<String, PathBuf>,
    origins: [Origin; 5],
}

/// Whether a folder or a file says that it is a Wan model.
pub fn is_wan(root: &Path) -> bool {
    match root.join("model_index.json").is_file() {
        true => folders::is_wan(root),
        false => files::is_wan(root),
    }
}

/// Recognises a folder of the reference library, or a file with a transformer (or a folder with
/// one, or with the two of Wan 2.2) and the other parts beside it.
pub fn detect_wan(root: &Path) -> Result<WanLayout> {
    detect_with(root, &PartSources::default())
}

/// The same, with parts from other places too.
pub(crate) fn detect_with(root: &Path, sources: &PartSources) -> Result<WanLayout> {
    let Found { parts, origins } = match root.join("model_index.json").is_file() {
        true => folders::read(root, sources)?,
        false => files::read(root, sources)?,
    };
    let named = WanComponent::ALL.map(WanComponent::as_str).into_iter();
    check_parts(root, &parts)?;
    let mut layout = WanLayout {
        root: root.to_owned(),
        variant: name_variant(&parts),
        parts,
        weights: Vec::new(),
        component_bytes: [0; 5],
        elsewhere: list_elsewhere(root, sources, named.zip(&origins)),
        origins,
    };
    (layout.weights, layout.component_bytes) =
        gather_weights(root, WanComponent::ALL, WanComponent::as_str, |component| {
            let has = layout.parts.has(component);
            has.then(|| layout.open(component)).transpose()
        })?;
    let text = &layout.origins[WanComponent::TextEncoder as usize];
    if !layout.has_tokenizer_files() && !stores_tokenizer(text)? {
        return Err(Error::missing(
            layout.tokenizer_folder(),
            "tokenizer.json, or spiece.model (umt5 files for ComfyUI, safetensors and GGUF, have it inside)",
        ));
    }
    Ok(layout)
}

/// What was found, before the parts were compared.
struct Found {
    parts: WanParts,
    /// In the order of [`WanComponent::ALL`].
    origins: [Origin; 5],
}

/// Whether the components fit each other.
fn check_parts(root: &Path, parts: &WanParts) -> Result<()> {
    let refuse = |reason: String| Err(Error::damaged(root, reason));
    let latents = parts.vae.latent_channels;
    let wanted = match parts.input {
        WanInput::Text | WanInput::FirstFrame => latents,
        // One mask for each frame of a latent frame, then the latents of what is given.
        WanInput::Channels => 2 * latents + parts.vae.time_scale(),
    };
    for transformer in [Some(&parts.transformer), parts.transformer_2.as_ref()]
        .into_iter()
        .flatten()
    {
        if transformer.in_channels != wanted || transformer.out_channels != latents {
            return Err(Error::unsupported(
                root,
                format!(
                    "its transformer takes {} channels and gives {}, where text or a first frame \
                     to video takes {wanted} and gives {latents}; VACE, Fun and Animate are not \
                     built yet",
                    transformer.in_channels, transformer.out_channels
                ),
            ));
        }
        if transformer.text_dim != parts.text.hidden {
            return refuse(format!(
                "its transformer expects text of width {}, the text encoder gives {}",
                transformer.text_dim, parts.text.hidden
            ));
        }
        if transformer.patch_size != parts.transformer.patch_size {
            return refuse("its two transformers cut tokens differently".to_owned());
        }
    }
    if parts
        .transformer_2
        .as_ref()
        .is_some_and(|second| second.image_dim != parts.transformer.image_dim)
    {
        return refuse("only one of its transformers takes picture embeddings".to_owned());
    }
    if parts
        .boundary
        .is_some_and(|boundary| !(0.0..=1.0).contains(&boundary))
    {
        return refuse(format!("boundary_ratio is {:?}", parts.boundary));
    }
    if let Some(vision) = &parts.vision {
        let transformer = &parts.transformer;
        if transformer.image_dim != Some(vision.sizes.hidden)
            || transformer
                .image_positions
                .is_some_and(|positions| positions != 2 * vision.sizes.positions)
        {
            return refuse(format!(
                "its transformer expects picture embeddings of width {:?} at {:?} positions, the \
                 image encoder gives {} at {}",
                transformer.image_dim,
                transformer.image_positions,
                vision.sizes.hidden,
                vision.sizes.positions
            ));
        }
    }
    Ok(())
}

/// Release and task, from what the parts are.
fn name_variant(parts: &WanParts) -> String {
    let is_small = parts.transformer.hidden() < 3072;
    let name = match (parts.input, &parts.transformer_2, &parts.vision) {
        (WanInput::FirstFrame, _, _) => "2.2-ti2v-5b",
        (WanInput::Text, Some(_), _) => "2.2-t2v-a14b",
        (WanInput::Channels, Some(_), _) => "2.2-i2v-a14b",
        (WanInput::Text, None, _) if is_small => "2.1-t2v-1.3b",
        (WanInput::Text, None, _) => "2.1-t2v-14b",
        (WanInput::Channels, None, _) if parts.needs_last_frame() => "2.1-flf2v-14b",
        (WanInput::Channels, None, _) => "2.1-i2v-14b",
    };
    name.to_owned()
}

impl WanLayout {
    /// Opens a component's weights under canonical names.
    pub fn open(&self, component: WanComponent) -> Result<WeightSet> {
        let set = match &self.origins[component as usize] {
            Origin::Absent => return Err(Error::missing(&self.root, component.title())),
            Origin::Folder(folder) => WeightSet::open_folder(folder)?,
            Origin::File { file, part } => part.open(&WeightSet::open_file(file)?)?.set,
        };
        Ok(match component {
            // The token table is stored once, under either name.
            WanComponent::TextEncoder if !set.has("shared.weight") => {
                set.renamed_by(|name| match name {
                    "encoder.embed_tokens.weight" => Some("shared.weight".to_owned()),
                    other => Some(other.to_owned()),
                })
            }
            WanComponent::TextEncoder => set.renamed_by(|name| {
                (name != "encoder.embed_tokens.weight").then(|| name.to_owned())
            }),
            // Older files carry a prefix and a table of numbers that is counted anew.
            WanComponent::ImageEncoder => set.renamed_by(|name| {
                let name = name.strip_prefix("vision_model.").unwrap_or(name);
                let is_used =
                    name != "embeddings.position_ids" && name != "visual_projection.weight";
                is_used.then(|| name.to_owned())
            }),
            _ => set,
        })
    }

    /// The parts for which another file can be chosen.
    pub(crate) fn replaceable(&self) -> Vec<&'static str> {
        let is_files = !self.root.join("model_index.json").is_file();
        (WanComponent::ALL.into_iter())
            .filter(|component| match component {
                WanComponent::Transformer => is_files && self.parts.transformer_2.is_some(),
                WanComponent::Transformer2 => is_files && self.parts.has(*component),
                _ => self.parts.has(*component),
            })
            .map(WanComponent::as_str)
            .collect()
    }

    /// Whether a network may stand for one of its parts, by the name of the part's folder.
    pub(crate) fn takes(&self, part: &str, network: &Network) -> bool {
        let transformer = &self.parts.transformer;
        match part {
            "vae" => files::choose_vae(network, transformer).is_some(),
            "text_encoder" => files::choose_text(network, transformer).is_some(),
            "image_encoder" => files::choose_vision(network, transformer).is_some(),
            "transformer" | "transformer_2" => {
                self.replaceable().contains(&part)
                    && matches!(network, Network::Wan(config) if config.hidden() == transformer.hidden()
                        && config.in_channels == transformer.in_channels
                        && config.layers == transformer.layers)
            }
            _ => false,
        }
    }

    /// Where a weight file of this model lies.
    pub fn weight_path(&self, file: &WeightFile) -> PathBuf {
        path_of(&self.root, &self.elsewhere, file)
    }

    /// The folder of the tokenizer's files. Where there are none in it, the text encoder's file
    /// [carries the tokenizer](Self::read_stored_tokenizer).
    pub fn tokenizer_folder(&self) -> PathBuf {
        base_folder(&self.root).join("tokenizer")
    }

    fn has_tokenizer_files(&self) -> bool {
        let folder = self.tokenizer_folder();
        ["tokenizer.json", "spiece.model"]
            .iter()
            .any(|file| folder.join(file).is_file())
    }

    /// The bytes of `spiece.model` that the text encoder's file carries, and that file. None where
    /// the tokenizer has files of its own, which count more.
    pub fn read_stored_tokenizer(&self) -> Result<Option<(PathBuf, Vec<u8>)>> {
        if self.has_tokenizer_files() {
            return Ok(None);
        }
        read_stored_tokenizer(&self.origins[WanComponent::TextEncoder as usize])
    }

    /// The scheduler's configuration, where there is one; files come without.
    pub fn scheduler_path(&self) -> Option<PathBuf> {
        scheduler_path(&self.root)
    }

    /// Bytes of a component's tensors; 0 when there is no such component.
    pub fn bytes_of(&self, component: WanComponent) -> u64 {
        self.component_bytes[component as usize]
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.component_bytes.iter().sum()
    }

    /// Bytes that are in memory at a time: of two denoisers the larger one.
    pub fn resident_bytes(&self) -> u64 {
        let first = self.bytes_of(WanComponent::Transformer);
        let second = self.bytes_of(WanComponent::Transformer2);
        self.total_bytes() - first.min(second)
    }
}
