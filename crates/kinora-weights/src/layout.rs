//! A recognised model: its configurations, and where the weights of each component lie.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kinora_core::{Family, WeightFile};

use crate::{
    ClipConfig, Error, FilePart, FluxConfig, GgufHeader, NameLayout, Network, ReduxConfig, Result,
    SchedulerConfig, SdParts, SiglipConfig, T5Config, VaeConfig, WeightSet,
    detect::{choose_clip, choose_t5, choose_vae},
    gguf::{has_spiece, read_spiece},
    maps, sd,
    search::short_name,
};

/// A part of a model that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The denoiser.
    Transformer,
    /// Latents to pixels and back.
    Vae,
    /// The short text encoder: CLIP.
    TextEncoder,
    /// The long text encoder, T5; in SDXL a second CLIP.
    TextEncoder2,
    /// What looks at pictures that the result shall be like: FLUX.1 Redux.
    ImageEncoder,
    /// What makes tokens beside those of text from that: FLUX.1 Redux.
    ImageEmbedder,
}

impl Component {
    /// Every component, in the order in which they are listed. No model has all of them but FLUX.1
    /// Redux.
    pub const ALL: [Component; 6] = [
        Component::Transformer,
        Component::Vae,
        Component::TextEncoder,
        Component::TextEncoder2,
        Component::ImageEncoder,
        Component::ImageEmbedder,
    ];

    /// Those that make pictures from text, in the same order.
    pub const CORE: [Component; 4] = [
        Component::Transformer,
        Component::Vae,
        Component::TextEncoder,
        Component::TextEncoder2,
    ];

    /// The name of its folder, and in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Component::Transformer => "transformer",
            Component::Vae => "vae",
            Component::TextEncoder => "text_encoder",
            Component::TextEncoder2 => "text_encoder_2",
            Component::ImageEncoder => "image_encoder",
            Component::ImageEmbedder => "image_embedder",
        }
    }

    /// What it is, for messages.
    pub fn title(self) -> &'static str {
        match self {
            Component::Transformer => "the transformer",
            Component::Vae => "the VAE",
            Component::TextEncoder => "the CLIP text encoder",
            Component::TextEncoder2 => "the T5 text encoder",
            Component::ImageEncoder => "the SigLIP vision encoder",
            Component::ImageEmbedder => "the Redux projection",
        }
    }
}

/// A part of a model that turns text into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// Of [`Component::TextEncoder`].
    Clip,
    /// Of [`Component::TextEncoder2`].
    T5,
}

impl Tokenizer {
    /// The name of its folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Tokenizer::Clip => "tokenizer",
            Tokenizer::T5 => "tokenizer_2",
        }
    }

    /// Files that make up such a tokenizer: one set of them is enough.
    pub(crate) fn file_sets(self) -> [&'static [&'static str]; 2] {
        match self {
            Tokenizer::Clip => [&["tokenizer.json"], &["vocab.json", "merges.txt"]],
            Tokenizer::T5 => [&["tokenizer.json"], &["spiece.model"]],
        }
    }

    /// Whether its files lie in a folder.
    pub(crate) fn is_in(self, folder: &Path) -> bool {
        let has = |file: &&str| folder.join(file).is_file();
        self.file_sets().iter().any(|files| files.iter().all(has))
    }

    /// Whether an encoder with a table of so many tokens was made for the tokenizer that comes with
    /// the program. T5's tables are rounded up.
    pub(crate) fn fits_built_in(self, vocab: usize) -> bool {
        match self {
            Tokenizer::Clip => vocab == 49_408,
            Tokenizer::T5 => (32_100..=32_128).contains(&vocab),
        }
    }
}

/// What a FLUX.1 network is given besides text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FluxKind {
    /// Nothing: text to picture.
    Text,
    /// The tokens of a picture that is to be edited, behind those of the new one: Kontext.
    Kontext,
    /// A picture with a hole and the hole's mask, as further channels: Fill.
    Fill,
    /// A picture of edges or depths, as further channels: Canny, Depth.
    Control,
    /// Tokens of pictures that the new one shall be like, behind those of the text: Redux.
    Redux,
}

impl FluxKind {
    /// What the network's width says, for latents packed into tokens of `packed` numbers. Kontext
    /// and Redux are as wide as text to picture. None: no FLUX.1 network has this width.
    pub fn of_channels(in_channels: usize, packed: usize) -> Option<Self> {
        match in_channels.checked_div(packed)? {
            1 if in_channels == packed => Some(Self::Text),
            2 if in_channels == 2 * packed => Some(Self::Control),
            // Latents of the picture, and 64 pixels of the mask for each latent.
            _ if in_channels == 2 * packed + 256 => Some(Self::Fill),
            _ => None,
        }
    }
}

/// The configurations of FLUX.1.
#[derive(Clone, Debug, PartialEq)]
pub struct FluxParts {
    /// What the denoiser is given.
    pub kind: FluxKind,
    /// Denoiser.
    pub transformer: FluxConfig,
    /// Latents to pixels.
    pub vae: VaeConfig,
    /// Short text encoder.
    pub clip: ClipConfig,
    /// Long text encoder.
    pub t5: T5Config,
    /// Noise levels.
    pub scheduler: SchedulerConfig,
    /// What looks at pictures; of Redux alone.
    pub redux: Option<ReduxParts>,
}

/// The configurations of what FLUX.1 Redux adds to its base.
#[derive(Clone, Debug, PartialEq)]
pub struct ReduxParts {
    /// Pictures to rows, one for each patch.
    pub vision: SiglipConfig,
    /// Those rows to tokens as wide as T5's.
    pub embedder: ReduxConfig,
}

/// The configurations of a model, by family.
#[derive(Clone, Debug, PartialEq)]
pub enum Parts {
    /// FLUX.1.
    Flux(Box<FluxParts>),
    /// Stable Diffusion 1.x, 2.x and XL.
    Sd(Box<SdParts>),
}

impl Parts {
    /// The VAE's.
    pub fn vae(&self) -> &VaeConfig {
        match self {
            Self::Flux(parts) => &parts.vae,
            Self::Sd(parts) => &parts.vae,
        }
    }

    /// What widths and heights of pictures are multiples of, in pixels.
    pub fn size_step(&self) -> usize {
        match self {
            // A token is 2×2 latents.
            Self::Flux(parts) => 2 * parts.vae.scale(),
            // Whole on the lowest level.
            Self::Sd(parts) => parts.vae.scale() << (parts.unet.block_out_channels.len() - 1),
        }
    }
}

/// Where a component's weights lie, and under which names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The model has no such component.
    Absent,
    /// A folder of the reference libraries.
    Folder(PathBuf),
    /// A network in a file, in any layout.
    File { file: PathBuf, part: FilePart },
}

/// A recognised model. Headers and configurations were read and agree; no tensor was.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelLayout {
    /// The folder or file that was recognised.
    pub root: PathBuf,
    /// Architecture.
    pub family: Family,
    /// Release of the architecture: `schnell`, `dev`, `kontext`, `fill`, `canny`, `depth`,
    /// `control`, `redux`.
    pub variant: String,
    /// Configurations.
    pub parts: Parts,
    /// Longest prompt that the T5 side was made for, in tokens, where its tokenizer tells.
    pub max_text_tokens: Option<usize>,
    /// Weight files; their hashes are not known yet.
    pub weights: Vec<WeightFile>,
    /// Bytes of the tensors of each component, in the order of [`Component::ALL`].
    pub component_bytes: [u64; 6],
    /// Numbers in the tensors of each component, in the same order.
    pub component_elements: [u64; 6],
    /// Files of parts that lie outside of the model's folder or were chosen, by component.
    pub elsewhere: BTreeMap<String, PathBuf>,
    pub(crate) origins: [Origin; 6],
    /// The folder in which the tokenizers lie: that of the base, where there is one.
    pub(crate) text_folder: PathBuf,
}

impl ModelLayout {
    /// Opens a component's weights under canonical names.
    pub fn open(&self, component: Component) -> Result<WeightSet> {
        open_origin(&self.origins[component as usize], component, &self.parts)
    }

    /// Whether a network may stand for one of its parts, by the name of the part's folder.
    pub(crate) fn takes(&self, part: &str, network: &Network) -> bool {
        match (&self.parts, part) {
            (Parts::Flux(parts), "vae") => choose_vae(network, &parts.transformer).is_some(),
            (Parts::Flux(parts), "text_encoder") => {
                choose_clip(network, &parts.transformer).is_some()
            }
            (Parts::Flux(parts), "text_encoder_2") => {
                choose_t5(network, &parts.transformer).is_some()
            }
            (Parts::Sd(parts), _) => sd::files::takes(parts, part, network),
            _ => false,
        }
    }

    /// The configurations of FLUX.1, if it is one.
    pub fn flux(&self) -> Option<&FluxParts> {
        match &self.parts {
            Parts::Flux(parts) => Some(parts),
            Parts::Sd(_) => None,
        }
    }

    /// The configurations of Stable Diffusion, if it is one.
    pub fn sd(&self) -> Option<&SdParts> {
        match &self.parts {
            Parts::Sd(parts) => Some(parts),
            Parts::Flux(_) => None,
        }
    }

    /// The folder that file names are relative to, and in which other parts lie.
    pub fn folder(&self) -> &Path {
        base_folder(&self.root)
    }

    /// The folder of a tokenizer's files.
    pub fn tokenizer_folder(&self, tokenizer: Tokenizer) -> PathBuf {
        self.text_folder.join(tokenizer.as_str())
    }

    /// Whether a tokenizer's files lie there. Where they do not, the text is cut by the tokenizer
    /// that comes with the program.
    pub fn has_tokenizer_files(&self, tokenizer: Tokenizer) -> bool {
        tokenizer.is_in(&self.tokenizer_folder(tokenizer))
    }

    /// Where a weight file of this model lies.
    pub fn weight_path(&self, file: &WeightFile) -> PathBuf {
        path_of(&self.root, &self.elsewhere, file)
    }

    /// Bytes of a component's tensors.
    pub fn bytes_of(&self, component: Component) -> u64 {
        self.component_bytes[component as usize]
    }

    /// Numbers in a component's tensors.
    pub fn elements_of(&self, component: Component) -> u64 {
        self.component_elements[component as usize]
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.component_bytes.iter().sum()
    }
}

/// The folder that file names are relative to: the root, or the folder of a root that is a file.
pub(crate) fn base_folder(root: &Path) -> &Path {
    if root.is_file() {
        root.parent().unwrap_or(Path::new(""))
    } else {
        root
    }
}

pub(crate) fn open_origin(
    origin: &Origin,
    component: Component,
    parts: &Parts,
) -> Result<WeightSet> {
    let set = match origin {
        Origin::Absent => {
            return Err(Error::missing("", component.title()));
        }
        Origin::Folder(folder) => WeightSet::open_folder(folder)?,
        Origin::File { file, part } => {
            let opened = part.open(&WeightSet::open_file(file)?)?.set;
            if let (Component::Transformer, Parts::Flux(flux)) = (component, parts)
                && part.names == NameLayout::Original
            {
                refuse_holes(&opened, &flux.transformer)?;
            }
            return Ok(opened);
        }
    };
    let is_sd = matches!(parts, Parts::Sd(_));
    Ok(match component {
        // Older files carry a prefix and a table of numbers that is counted anew.
        Component::TextEncoder => set.renamed_by(rename_clip),
        Component::TextEncoder2 if is_sd => set.renamed_by(rename_clip),
        // Older files have other names for the attention in the middle.
        Component::Vae if is_sd => maps::open_by(&set, "", maps::ldm_vae::rename_old)?.set,
        // The token table is stored once, under either name.
        Component::TextEncoder2 if !set.has("shared.weight") => set.renamed_by(|name| match name {
            "encoder.embed_tokens.weight" => Some("shared.weight".to_owned()),
            other => Some(other.to_owned()),
        }),
        Component::TextEncoder2 => {
            set.renamed_by(|name| (name != "encoder.embed_tokens.weight").then(|| name.to_owned()))
        }
        Component::ImageEncoder => maps::open_by(&set, "", maps::text::rename_clip_vision)?.set,
        Component::Transformer | Component::Vae | Component::ImageEmbedder => set,
    })
}

/// The tensor in which ComfyUI's text encoders in safetensors carry their tokenizer, the bytes of
/// `spiece.model`.
const STORED_TOKENIZER: &str = "spiece_model";

/// The published ones have 4.5 MB.
const MAX_TOKENIZER_BYTES: usize = 64 << 20;

/// Whether a text encoder's file carries its tokenizer.
pub(crate) fn stores_tokenizer(text_encoder: &Origin) -> Result<bool> {
    Ok(match text_encoder {
        Origin::File { file, .. } => {
            let set = WeightSet::open_file(file)?;
            set.has(STORED_TOKENIZER) || has_spiece(set.metadata())
        }
        Origin::Folder(_) | Origin::Absent => false,
    })
}

/// The tokenizer that a text encoder's file carries, and that file.
pub(crate) fn read_stored_tokenizer(text_encoder: &Origin) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let Origin::File { file, .. } = text_encoder else {
        return Ok(None);
    };
    let bytes = stored_tokenizer(file)?;
    Ok(bytes.map(|bytes| (file.clone(), bytes)))
}

/// The tokenizer that a text encoder's file carries, as the bytes of a SentencePiece model: ComfyUI's
/// in safetensors have a tensor of them, those in GGUF the vocabulary in their header.
///
/// # Errors
/// The file cannot be read, or what it carries is damaged.
pub fn stored_tokenizer(file: &Path) -> Result<Option<Vec<u8>>> {
    let set = WeightSet::open_file(file)?;
    match set.shape(STORED_TOKENIZER) {
        Some(shape) if shape.iter().product::<usize>() <= MAX_TOKENIZER_BYTES => {
            Ok(Some(set.read(STORED_TOKENIZER)?))
        }
        Some(_) => Err(Error::damaged(file, "the tokenizer in it is too large")),
        None if has_spiece(set.metadata()) => {
            let (reader, header) = GgufHeader::open(file)?;
            read_spiece(&reader, &header)
        }
        None => Ok(None),
    }
}

fn rename_clip(name: &str) -> Option<String> {
    let name = name.strip_prefix("text_model.").unwrap_or(name);
    (name != "embeddings.position_ids").then(|| name.to_owned())
}

/// A block with a hole is told when a file is opened, not when the network is built.
fn refuse_holes(set: &WeightSet, config: &FluxConfig) -> Result<()> {
    for entry in maps::flux::transformer(config.layers, config.single_layers).modules() {
        if config.has_guidance || !entry.from.starts_with("guidance_in.") {
            set.get(&format!("{}.weight", entry.to))?;
        }
    }
    Ok(())
}

/// Where a weight file of a model lies.
pub(crate) fn path_of(
    root: &Path,
    elsewhere: &BTreeMap<String, PathBuf>,
    file: &WeightFile,
) -> PathBuf {
    match elsewhere.get(&file.component) {
        Some(path) => path.clone(),
        None => base_folder(root).join(&file.file),
    }
}

/// The files of a component as a plan lists them.
pub(crate) fn list_weight_files(
    root: &Path,
    component: Component,
    set: &WeightSet,
) -> Result<Vec<WeightFile>> {
    list_files_as(root, component.as_str(), set)
}

/// The weight files of all components of a model, and the bytes of each component's tensors. `open`
/// gives none for a component that the model does not have. A file with several in it is listed once.
pub(crate) fn gather_weights<C: Copy, const N: usize>(
    root: &Path,
    components: [C; N],
    name: impl Fn(C) -> &'static str,
    open: impl Fn(C) -> Result<Option<WeightSet>>,
) -> Result<(Vec<WeightFile>, [u64; N])> {
    let mut weights: Vec<WeightFile> = Vec::new();
    let mut bytes = [0; N];
    for (component, bytes) in components.into_iter().zip(&mut bytes) {
        let Some(set) = open(component)? else {
            continue;
        };
        *bytes = set.total_bytes();
        for file in list_files_as(root, name(component), &set)? {
            if weights.iter().all(|other| other.file != file.file) {
                weights.push(file);
            }
        }
    }
    Ok((weights, bytes))
}

/// The same for a component of any family, by its name.
pub(crate) fn list_files_as(
    root: &Path,
    component: &str,
    set: &WeightSet,
) -> Result<Vec<WeightFile>> {
    let base = base_folder(root);
    set.files()
        .map(|path| {
            let file = match path.starts_with(base) {
                true => path_from(base, path),
                false => short_name(path),
            };
            Ok(WeightFile {
                component: component.to_owned(),
                file,
                bytes: fs::metadata(path).map_err(Error::io(path))?.len(),
                sha256: None,
            })
        })
        .collect()
}

/// A file's path from a folder, with `/` between its parts and `..` where it lies beside.
pub(crate) fn path_from(folder: &Path, file: &Path) -> String {
    let both = folder.components().zip(file.components());
    let common = both.take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| "..".into());
    let down = file.components().skip(common);
    up.chain(down.map(|part| part.as_os_str().to_string_lossy()))
        .collect::<Vec<_>>()
        .join("/")
}
