//! A recognised model of Wan 2.1 or 2.2 in a folder of the reference library: its configurations,
//! and where the weights of each component lie.
//!
//! Not here: models of one file, which [`crate::identify`](crate::identify::identify) tells apart.

use std::path::{Path, PathBuf};

use kinora_core::WeightFile;
use serde::Deserialize;

use crate::{
    ClipVisionParts, Error, LatentStats, Result, T5Config, WanConfig, WanVaeConfig, WeightSet,
    json::read_config, layout::list_files_as,
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

    /// What a run of a clip of this size needs besides weights, in activations of
    /// `bytes_per_number`. The decode grows with the size of a frame only.
    pub fn estimate(
        &self,
        (width, height): (u32, u32),
        frames: u32,
        bytes_per_number: u64,
    ) -> ClipEstimate {
        let scale = self.vae.scale() as u64;
        let (columns, rows) = (u64::from(width) / scale, u64::from(height) / scale);
        let time = self.vae.time_scale() as u64;
        let latent_frames = u64::from(frames).saturating_sub(1) / time + 1;
        let transformer = &self.transformer;
        let tokens = latent_frames.saturating_mul(rows).saturating_mul(columns)
            / transformer.patch_len().max(1) as u64;
        // Stream, norm, queries, keys and values with their packed copies, attention, output; or
        // the inside of the feed-forward layer, twice.
        let hidden = transformer.hidden() as u64;
        let wide = (11 * hidden).max(3 * hidden + 2 * transformer.ffn_dim as u64);
        // Keys and values of two texts for every block.
        let context = (4 * CONTEXT_ROWS)
            .saturating_mul(hidden)
            .saturating_mul(transformer.layers as u64);
        let numbers = tokens.saturating_mul(wide).saturating_add(context);
        ClipEstimate {
            activations: numbers
                .saturating_mul(bytes_per_number)
                .saturating_add(64 << 20),
            decode: self.decode_bytes(rows.saturating_mul(columns), bytes_per_number),
        }
    }

    /// The decoder at its widest level: the frames of one latent frame, their padded copy, result
    /// and residual; and what every convolution remembers.
    fn decode_bytes(&self, latents: u64, bytes_per_number: u64) -> u64 {
        let vae = &self.vae;
        let levels = vae.multipliers.len();
        let mut frames = 1u64;
        let (mut widest, mut remembered) = (0u64, 0u64);
        for (i, factor) in vae.multipliers.iter().rev().enumerate() {
            let width = (factor * vae.decoder_base_dim) as u64;
            let pixels = latents.saturating_mul(1 << (2 * i));
            let row = pixels.saturating_mul(width);
            widest = widest.max(row.saturating_mul(4 * frames + 2));
            remembered = remembered
                .saturating_add(row.saturating_mul(4 * (vae.blocks_per_level as u64 + 1)));
            if i + 1 < levels && vae.halves_time[levels - 2 - i] {
                frames *= 2;
            }
        }
        widest
            .saturating_add(remembered)
            .saturating_mul(bytes_per_number)
            .saturating_add(32 << 20)
    }

    fn has(&self, component: WanComponent) -> bool {
        match component {
            WanComponent::Transformer2 => self.transformer_2.is_some(),
            WanComponent::ImageEncoder => self.vision.is_some(),
            _ => true,
        }
    }
}

/// Rows of text and pictures that the blocks attend to, at most in practice.
const CONTEXT_ROWS: u64 = 512 + 514;

/// Bytes per stage of a clip, besides weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipEstimate {
    /// Peak of the denoiser.
    pub activations: u64,
    /// Peak of the decoder.
    pub decode: u64,
}

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub struct WanLayout {
    /// The folder that was recognised.
    pub root: PathBuf,
    /// Release and task: `2.2-i2v-a14b`.
    pub variant: String,
    /// Configurations.
    pub parts: WanParts,
    /// Weight files; their hashes are not known yet.
    pub weights: Vec<WeightFile>,
    /// Bytes of the tensors of each component, in the order of [`WanComponent::ALL`].
    pub component_bytes: [u64; 5],
}

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

/// Classes of the reference library whose folders are read here.
pub const CLASSES: [&str; 2] = ["WanPipeline", "WanImageToVideoPipeline"];

/// Whether a folder says that it is a Wan model.
pub fn is_wan(root: &Path) -> bool {
    read_config::<ModelIndex>(&root.join("model_index.json"))
        .is_ok_and(|index| CLASSES.contains(&index.class.as_str()))
}

/// Recognises a folder of the reference library.
pub fn detect_wan(root: &Path) -> Result<WanLayout> {
    let index: ModelIndex = read_config(&root.join("model_index.json"))?;
    if !CLASSES.contains(&index.class.as_str()) {
        return Err(Error::unknown_layout(
            root,
            format!("it is a {}, which is no Wan model", index.class),
        ));
    }
    let parts = read_parts(root, &index)?;
    let mut layout = WanLayout {
        root: root.to_owned(),
        variant: name_variant(&parts),
        parts,
        weights: Vec::new(),
        component_bytes: [0; 5],
    };
    for component in WanComponent::ALL {
        if layout.parts.has(component) {
            let set = layout.open(component)?;
            layout.component_bytes[component as usize] = set.total_bytes();
            layout
                .weights
                .extend(list_files_as(root, component.as_str(), &set)?);
        }
    }
    let tokenizer = layout.tokenizer_folder();
    if !["tokenizer.json", "spiece.model"]
        .iter()
        .any(|file| tokenizer.join(file).is_file())
    {
        return Err(Error::missing(tokenizer, "tokenizer.json, or spiece.model"));
    }
    Ok(layout)
}

fn read_parts(root: &Path, index: &ModelIndex) -> Result<WanParts> {
    let config_of = |component: WanComponent| -> Option<PathBuf> {
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
    let parts = WanParts {
        transformer,
        transformer_2,
        boundary: index.boundary_ratio,
        vae,
        stats,
        text: T5Config::read(&text_path)?,
        vision,
        input,
    };
    check_parts(root, &parts)?;
    Ok(parts)
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
        let set = WeightSet::open_folder(&self.root.join(component.as_str()))?;
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

    /// The folder of the tokenizer's files.
    pub fn tokenizer_folder(&self) -> PathBuf {
        self.root.join("tokenizer")
    }

    /// The scheduler's configuration.
    pub fn scheduler_path(&self) -> PathBuf {
        self.root.join("scheduler").join("scheduler_config.json")
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
