//! A recognised model of LTX-2 or 2.3, in a folder of the reference library or in its authors' file
//! with the text encoder beside it: its configurations, and where the weights of each component lie.
//!
//! Not here: LTX-Video.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kinora_core::WeightFile;
use serde::Deserialize;

use crate::{
    Error, GemmaConfig, Ltx2AudioVaeConfig, Ltx2ConnectorsConfig, Ltx2VocoderConfig,
    LtxAudioConfig, LtxConfig, LtxVaeConfig, Network, Result, WeightSet,
    glance::find_networks,
    json::read_config,
    layout::{
        Origin, base_folder, gather_weights, path_of, read_stored_tokenizer, stores_tokenizer,
    },
    ltx::{
        LtxEstimate, decode_bytes, find_file, holds_transformer, open, scheduler_path,
        smallest_decode, tokens_of,
    },
    search::{PartSources, Search, Wanted, list_elsewhere},
};

/// A part of an LTX-2 model that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ltx2Component {
    /// The denoiser of picture and sound.
    Transformer,
    /// Latents to frames and back.
    Vae,
    /// Gemma 3.
    TextEncoder,
    /// Between text encoder and denoiser.
    Connectors,
    /// Latents to spectrograms and back.
    AudioVae,
    /// Spectrograms to samples.
    Vocoder,
}

impl Ltx2Component {
    /// Every component, in the order in which they are listed.
    pub const ALL: [Ltx2Component; 6] = [
        Ltx2Component::Transformer,
        Ltx2Component::Vae,
        Ltx2Component::TextEncoder,
        Ltx2Component::Connectors,
        Ltx2Component::AudioVae,
        Ltx2Component::Vocoder,
    ];

    /// The name of its folder, and in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Ltx2Component::Transformer => "transformer",
            Ltx2Component::Vae => "vae",
            Ltx2Component::TextEncoder => "text_encoder",
            Ltx2Component::Connectors => "connectors",
            Ltx2Component::AudioVae => "audio_vae",
            Ltx2Component::Vocoder => "vocoder",
        }
    }

    /// What it is, for messages.
    pub fn title(self) -> &'static str {
        match self {
            Ltx2Component::Transformer => "the transformer",
            Ltx2Component::Vae => "the VAE",
            Ltx2Component::TextEncoder => "the Gemma 3 text encoder",
            Ltx2Component::Connectors => "the text connectors",
            Ltx2Component::AudioVae => "the sound VAE",
            Ltx2Component::Vocoder => "the vocoder",
        }
    }
}

/// The configurations of an LTX-2 model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2Parts {
    /// Denoiser.
    pub transformer: LtxConfig,
    /// Its half for the sound, which is in `transformer` too.
    pub audio: LtxAudioConfig,
    /// Latents to frames.
    pub vae: LtxVaeConfig,
    /// Text encoder.
    pub text: GemmaConfig,
    /// Between text encoder and denoiser.
    pub connectors: Ltx2ConnectorsConfig,
    /// Latents to spectrograms.
    pub audio_vae: Ltx2AudioVaeConfig,
    /// Spectrograms to samples.
    pub vocoder: Ltx2VocoderConfig,
}

impl Ltx2Parts {
    /// Whether it is of version 2.3, whose text is modulated by time.
    pub fn is_23(&self) -> bool {
        self.audio.is_modulated
    }

    /// What a run of a clip of this size needs besides weights, in activations of
    /// `bytes_per_number`. The decode grows with the size of a frame only.
    pub fn estimate(
        &self,
        size: (u32, u32),
        frames: u32,
        frame_rate: f64,
        text_tokens: usize,
        bytes_per_number: u64,
    ) -> LtxEstimate {
        let (hidden, audio) = (self.transformer.hidden() as u64, self.audio.hidden() as u64);
        let sound = self.audio.tokens(frames, frame_rate) as u64;
        // Stream, norm, queries, keys and values with their packed copies, attention, output; or
        // the inside of the feed-forward layer, twice.
        let streams = tokens_of(&self.vae, size, frames)
            .saturating_mul(11 * hidden)
            .saturating_add(sound.saturating_mul(11 * audio));
        // Keys and values of two texts, which 2.3 makes anew for every block.
        let blocks = match self.is_23() {
            true => 1,
            false => self.transformer.layers as u64,
        };
        let context = (4 * text_tokens as u64).saturating_mul((hidden + audio) * blocks);
        // The text encoder's layers side by side.
        let text = (2 * text_tokens as u64).saturating_mul(self.connectors.inputs() as u64);
        LtxEstimate {
            activations: streams
                .saturating_add(context)
                .saturating_add(text)
                .saturating_mul(bytes_per_number)
                .saturating_add(64 << 20),
            decode: decode_bytes(&self.vae, size, bytes_per_number)
                .max(self.sound_bytes(sound, bytes_per_number)),
            tiled_decode: smallest_decode(&self.vae, size, frames, bytes_per_number)
                .max(self.sound_bytes(sound, bytes_per_number)),
        }
    }

    /// The vocoder at its widest: a level's input, result, and the sums of its blocks.
    fn sound_bytes(&self, latents: u64, bytes_per_number: u64) -> u64 {
        let widest = |stage: &crate::Ltx2StageConfig, rows: u64| {
            let (mut length, mut width) = (rows, stage.hidden as u64);
            let mut widest = length.saturating_mul(width);
            for (_, factor) in &stage.levels {
                length = length.saturating_mul(*factor as u64);
                width /= 2;
                // Twice as long between the filters of an activation.
                widest = widest.max(length.saturating_mul(8 * width));
            }
            (widest, length)
        };
        let rows = latents.saturating_mul(Ltx2AudioVaeConfig::TIME_SCALE as u64);
        let (mut most, samples) = widest(&self.vocoder.stage, rows);
        if let Some(widening) = &self.vocoder.widening {
            let rows = samples / widening.hop.max(1) as u64 + 1;
            most = most.max(widest(&widening.stage, rows).0);
        }
        most.saturating_mul(bytes_per_number.max(4))
            .saturating_add(32 << 20)
    }
}

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub struct Ltx2Layout {
    /// The folder or file that was recognised.
    pub root: PathBuf,
    /// Release: `2.0`, `2.3`.
    pub variant: String,
    /// Configurations.
    pub parts: Ltx2Parts,
    /// Weight files; their hashes are not known yet.
    pub weights: Vec<WeightFile>,
    /// Bytes of the tensors of each component, in the order of [`Ltx2Component::ALL`].
    pub component_bytes: [u64; 6],
    /// Files of parts that lie outside of the model's folder or were chosen, by component.
    pub elsewhere: BTreeMap<String, PathBuf>,
    pub(crate) origins: [Origin; 6],
}

/// `model_index.json`, as far as it counts.
#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class: String,
}

/// Classes of the reference library whose folders are read here. They hold the same networks.
pub const CLASSES: [&str; 2] = ["LTX2Pipeline", "LTX2ImageToVideoPipeline"];

/// Whether a folder or a file says that it is an LTX-2 model.
pub fn is_ltx2(root: &Path) -> bool {
    let index = root.join("model_index.json");
    if index.is_file() {
        return read_config::<ModelIndex>(&index)
            .is_ok_and(|index| CLASSES.contains(&index.class.as_str()));
    }
    holds_transformer(root, |config| config.audio.is_some())
}

/// Recognises a folder of the reference library, or a file (or a folder with one) that holds
/// everything but the text encoder, which is beside it.
pub fn detect_ltx2(root: &Path) -> Result<Ltx2Layout> {
    detect_with(root, &PartSources::default())
}

/// The same, with parts from other places too.
pub(crate) fn detect_with(root: &Path, sources: &PartSources) -> Result<Ltx2Layout> {
    let index = root.join("model_index.json");
    let (parts, origins) = if root.is_file() {
        read_file(root, sources)?
    } else if index.is_file() {
        let index: ModelIndex = read_config(&index)?;
        if !CLASSES.contains(&index.class.as_str()) {
            return Err(Error::unknown_layout(
                root,
                format!("it is a {}, which is no LTX-2 model", index.class),
            ));
        }
        let folder = |component: Ltx2Component| Origin::Folder(root.join(component.as_str()));
        let (mut parts, mut origins) = (read_parts(root)?, Ltx2Component::ALL.map(folder));
        let search = Search {
            folder: root,
            same: None,
            sources,
        };
        let is_23 = parts.is_23();
        if let Some((origin, vae)) =
            search.find_chosen(&VAE, &|network| choose_vae(network, is_23))?
        {
            (origins[Ltx2Component::Vae as usize], parts.vae) = (origin, vae);
        }
        let width = parts.connectors.caption_channels;
        if let Some((origin, text)) =
            search.find_chosen(&TEXT, &|network| choose_text(network, width))?
        {
            (origins[Ltx2Component::TextEncoder as usize], parts.text) = (origin, text);
        }
        check_parts(root, &parts)?;
        (parts, origins)
    } else {
        read_file(&find_file(root, |config| config.audio.is_some())?, sources)?
    };
    let named = Ltx2Component::ALL.map(Ltx2Component::as_str).into_iter();
    let variant = if parts.is_23() { "2.3" } else { "2.0" };
    let mut layout = Ltx2Layout {
        elsewhere: list_elsewhere(root, sources, named.zip(&origins)),
        root: root.to_owned(),
        variant: variant.to_owned(),
        parts,
        weights: Vec::new(),
        component_bytes: [0; 6],
        origins,
    };
    (layout.weights, layout.component_bytes) = gather_weights(
        root,
        Ltx2Component::ALL,
        Ltx2Component::as_str,
        |component| layout.open(component).map(Some),
    )?;
    let text = &layout.origins[Ltx2Component::TextEncoder as usize];
    if !layout.has_tokenizer_files() && !stores_tokenizer(text)? {
        return Err(Error::missing(
            layout.tokenizer_folder(),
            "tokenizer.json (gemma files for ComfyUI have it inside)",
        ));
    }
    Ok(layout)
}

const VAE: Wanted = Wanted {
    name: "vae",
    title: "the VAE",
    likely: &["ltx-2", "ltx2", "ltx"],
    unlikely: &["audio"],
};

const TEXT: Wanted = Wanted {
    name: "text_encoder",
    title: "the Gemma 3 text encoder",
    likely: &["gemma"],
    unlikely: &[],
};

/// 2.3 has nothing around its frames.
fn choose_vae(network: &Network, is_23: bool) -> Option<LtxVaeConfig> {
    match network {
        Network::LtxVae(release) => Some(LtxVaeConfig {
            is_decoder_mirrored: !is_23,
            ..LtxVaeConfig::published(*release)
        }),
        _ => None,
    }
}

fn choose_text(network: &Network, width: usize) -> Option<GemmaConfig> {
    match network {
        Network::Gemma(config) if config.hidden == width => Some(config.clone()),
        _ => None,
    }
}

/// A file with everything but the text encoder; what it lacks is beside it.
fn read_file(file: &Path, sources: &PartSources) -> Result<(Ltx2Parts, [Origin; 6])> {
    let folder = base_folder(file);
    let set = WeightSet::open_file(file)?;
    let plain = |component: Ltx2Component| Wanted::plain((component.as_str(), component.title()));
    let transformer = find_networks(&set)?
        .into_iter()
        .find_map(|part| match &part.network {
            Network::Ltx(config) => Some((config.clone(), config.audio.clone()?, part)),
            _ => None,
        });
    let Some((transformer, audio, part)) = transformer else {
        return Err(Error::unknown_layout(
            file,
            "its tensors have none of the names that LTX-2 uses",
        ));
    };
    let is_23 = audio.is_modulated;
    let search = Search {
        folder,
        same: Some(&set),
        sources,
    };
    let (vae_origin, vae) = search.find(&VAE, LtxVaeConfig::read, |network| {
        choose_vae(network, is_23)
    })?;
    let (connectors_origin, connectors) = search.find(
        &plain(Ltx2Component::Connectors),
        Ltx2ConnectorsConfig::read,
        |network| match network {
            Network::LtxConnectors { is_per_modality } => {
                Some(Ltx2ConnectorsConfig::published(*is_per_modality))
            }
            _ => None,
        },
    )?;
    let (audio_vae_origin, audio_vae) = search.find(
        &plain(Ltx2Component::AudioVae),
        Ltx2AudioVaeConfig::read,
        |network| match network {
            Network::LtxAudioVae => Some(Ltx2AudioVaeConfig::default()),
            _ => None,
        },
    )?;
    let (vocoder_origin, vocoder) = search.find(
        &plain(Ltx2Component::Vocoder),
        Ltx2VocoderConfig::read,
        |network| match network {
            Network::LtxVocoder { has_second_stage } => {
                Some(Ltx2VocoderConfig::published(*has_second_stage))
            }
            _ => None,
        },
    )?;
    let (text_origin, text) = search.find(&TEXT, GemmaConfig::read, |network| {
        choose_text(network, connectors.caption_channels)
    })?;
    let parts = Ltx2Parts {
        transformer,
        audio,
        vae,
        text,
        connectors,
        audio_vae,
        vocoder,
    };
    check_parts(file, &parts)?;
    let file = file.to_owned();
    Ok((
        parts,
        [
            Origin::File { file, part },
            vae_origin,
            text_origin,
            connectors_origin,
            audio_vae_origin,
            vocoder_origin,
        ],
    ))
}

fn read_parts(root: &Path) -> Result<Ltx2Parts> {
    let config_of = |component: Ltx2Component| {
        let path = root.join(component.as_str()).join("config.json");
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::missing(
                root,
                format!("{} (folder {}/)", component.title(), component.as_str()),
            )),
        }
    };
    let transformer = LtxConfig::read(&config_of(Ltx2Component::Transformer)?)?;
    let Some(audio) = transformer.audio.clone() else {
        return Err(Error::damaged(
            root,
            "its transformer makes no sound, which is LTX-Video".to_owned(),
        ));
    };
    let parts = Ltx2Parts {
        transformer,
        audio,
        vae: LtxVaeConfig::read(&config_of(Ltx2Component::Vae)?)?,
        text: GemmaConfig::read(&config_of(Ltx2Component::TextEncoder)?)?,
        connectors: Ltx2ConnectorsConfig::read(&config_of(Ltx2Component::Connectors)?)?,
        audio_vae: Ltx2AudioVaeConfig::read(&config_of(Ltx2Component::AudioVae)?)?,
        vocoder: Ltx2VocoderConfig::read(&config_of(Ltx2Component::Vocoder)?)?,
    };
    check_parts(root, &parts)?;
    Ok(parts)
}

/// Whether the components fit each other.
fn check_parts(root: &Path, parts: &Ltx2Parts) -> Result<()> {
    let (transformer, audio) = (&parts.transformer, &parts.audio);
    let (connectors, sound) = (&parts.connectors, &parts.audio_vae);
    let text = match transformer.caption_channels {
        Some(channels) => [channels; 2],
        None => [transformer.cross_attention_dim, audio.cross_attention_dim],
    };
    let pairs = [
        (
            "channels of a video token",
            transformer.in_channels,
            parts.vae.latent_channels,
        ),
        ("frames to a latent frame", 8, parts.vae.time_scale()),
        ("pixels to a latent", 32, parts.vae.scale()),
        (
            "channels of a sound token",
            audio.in_channels,
            sound.token(),
        ),
        ("samples a second", audio.sample_rate, sound.sample_rate),
        ("samples of a row", audio.hop, sound.hop),
        (
            "rows to a latent",
            audio.scale,
            Ltx2AudioVaeConfig::TIME_SCALE,
        ),
        (
            "width of the text for the picture",
            text[0],
            connectors.video.hidden(),
        ),
        (
            "width of the text for the sound",
            text[1],
            connectors.audio.hidden(),
        ),
        (
            "width of the text encoder",
            connectors.caption_channels,
            parts.text.hidden,
        ),
        (
            "layers of the text encoder",
            connectors.text_layers,
            parts.text.layers + 1,
        ),
        (
            "columns of the spectrogram",
            sound.output_channels * sound.mel_bins,
            parts.vocoder.stage.in_channels,
        ),
        (
            "width of the projected text for the picture",
            transformer.cross_attention_dim,
            transformer.hidden(),
        ),
        (
            "width of the projected text for the sound",
            audio.cross_attention_dim,
            audio.hidden(),
        ),
    ];
    match pairs.iter().find(|(_, wanted, found)| wanted != found) {
        Some((what, wanted, found)) => Err(Error::damaged(
            root,
            format!("its parts do not fit: the {what} should be {wanted}, not {found}"),
        )),
        None => Ok(()),
    }
}

impl Ltx2Layout {
    /// Opens a component's weights under canonical names.
    pub fn open(&self, component: Ltx2Component) -> Result<WeightSet> {
        let set = open(&self.origins[component as usize], component.title())?;
        Ok(match component {
            Ltx2Component::TextEncoder => text_side(set),
            _ => set,
        })
    }

    /// Whether a network may stand for one of its parts, by the name of the part's folder.
    pub(crate) fn takes(&self, part: &str, network: &Network) -> bool {
        match part {
            "vae" => choose_vae(network, self.parts.is_23())
                .is_some_and(|vae| vae.latent_channels == self.parts.vae.latent_channels),
            "text_encoder" => {
                choose_text(network, self.parts.connectors.caption_channels).is_some()
            }
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

    fn has_tokenizer_files(&self) -> bool {
        self.tokenizer_folder().join("tokenizer.json").is_file()
    }

    /// The bytes of `tokenizer.model` that the text encoder's file carries, and that file. None where
    /// the tokenizer has a file of its own, which counts more.
    pub fn read_stored_tokenizer(&self) -> Result<Option<(PathBuf, Vec<u8>)>> {
        if self.has_tokenizer_files() {
            return Ok(None);
        }
        read_stored_tokenizer(&self.origins[Ltx2Component::TextEncoder as usize])
    }

    /// The scheduler's configuration, where there is one; else the schedule is
    /// [`of_ltx`](crate::SchedulerConfig::of_ltx).
    pub fn scheduler_path(&self) -> Option<PathBuf> {
        scheduler_path(&self.root)
    }

    /// Bytes of a component's tensors.
    pub fn bytes_of(&self, component: Ltx2Component) -> u64 {
        self.component_bytes[component as usize]
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.component_bytes.iter().sum()
    }
}

/// The text side of a Gemma 3 that may see pictures too, without what stands before its names.
fn text_side(set: WeightSet) -> WeightSet {
    const TABLE: &str = "embed_tokens.weight";
    let prefix = set
        .tensors()
        .filter_map(|(name, _)| name.strip_suffix(TABLE))
        .find(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .unwrap_or("")
        .to_owned();
    set.renamed_by(|name| {
        let name = name.strip_prefix(prefix.as_str())?;
        let is_own = ["embed_tokens.", "layers.", "norm."];
        is_own
            .iter()
            .any(|begin| name.starts_with(begin))
            .then(|| name.to_owned())
    })
}
