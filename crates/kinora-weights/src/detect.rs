//! Which model lies in a folder or a file, from headers and configuration files alone.

use std::path::{Path, PathBuf};

use kinora_core::Family;
use serde::Deserialize;

use crate::{
    ClipConfig, Component, Error, FilePart, FluxConfig, FluxKind, FluxParts, Header, ModelLayout,
    Network, Parts, Result, SchedulerConfig, T5Config, TextActivation, Tokenizer, VaeConfig,
    WeightSet,
    glance::find_networks,
    identify_set,
    json::read_config,
    layout::{Origin, base_folder, list_weight_files, open_origin},
    maps, redux,
    sd::{self, ModelIndex},
    search::{PartSources, Search, Wanted, list_elsewhere},
    shards::list_files,
};

/// Recognises a model: a folder of the reference library (`model_index.json`), or a file (or a
/// folder with one) in any layout, safetensors or GGUF, with the other parts beside it.
pub fn detect(root: &Path) -> Result<ModelLayout> {
    detect_with(root, &PartSources::default())
}

/// The same, with parts from other places too.
pub(crate) fn detect_with(root: &Path, sources: &PartSources) -> Result<ModelLayout> {
    let metadata = root.metadata().map_err(Error::io(root))?;
    if let Some(adapter) = redux::find(root)? {
        return redux::detect(root, &adapter, sources);
    }
    let index = root.join("model_index.json");
    if (metadata.is_file() || !index.is_file())
        && let Some(file) = sd::files::find_file(root)?
    {
        return sd::detect_file(root, &file, sources);
    }
    if index.is_file() {
        let index: ModelIndex = read_config(&index)?;
        if index.is_sd() {
            return sd::detect(root, &index, sources);
        }
    }
    detect_flux(root, sources)
}

/// Recognises FLUX.1 by itself, whatever lies beside it.
pub(crate) fn detect_flux(root: &Path, sources: &PartSources) -> Result<ModelLayout> {
    let index = root.join("model_index.json");
    let recognised = if root.is_file() {
        recognise_files(root, root, sources)?
    } else if index.is_file() {
        recognise_folders(root, &read_config(&index)?, sources)?
    } else {
        recognise_files(root, &find_transformer_file(root)?, sources)?
    };
    check_tokenizers(root, &recognised.flux)?;
    describe(root, recognised, sources)
}

/// What was found, before names, shapes and sizes were compared.
struct Recognised {
    origins: [Origin; 4],
    flux: FluxParts,
    variant: &'static str,
}

/// Opens every component once: names, shapes and sizes agree with the configurations.
fn describe(root: &Path, recognised: Recognised, sources: &PartSources) -> Result<ModelLayout> {
    let Recognised {
        origins,
        flux,
        variant,
    } = recognised;
    let mut weights: Vec<kinora_core::WeightFile> = Vec::new();
    let mut component_bytes = [0; 6];
    let mut component_elements = [0; 6];
    let parts = Parts::Flux(Box::new(flux.clone()));
    for component in Component::CORE {
        let set = open_origin(&origins[component as usize], component, &parts)?;
        check_component(component, &set, &flux)?;
        component_bytes[component as usize] = set.total_bytes();
        component_elements[component as usize] = set.total_elements();
        for file in list_weight_files(root, component, &set)? {
            // A file with everything in it is listed once.
            if weights.iter().all(|other| other.file != file.file) {
                weights.push(file);
            }
        }
    }
    check_parts(root, &flux)?;
    let named = Component::CORE.map(Component::as_str).into_iter();
    let elsewhere = list_elsewhere(root, sources, named.zip(&origins));
    let [transformer, vae, first, second] = origins;
    let absent = || Origin::Absent;
    Ok(ModelLayout {
        root: root.to_owned(),
        family: Family::Flux,
        variant: variant.to_owned(),
        parts,
        max_text_tokens: read_max_text_tokens(base_folder(root))?,
        weights,
        component_bytes,
        component_elements,
        elsewhere,
        origins: [transformer, vae, first, second, absent(), absent()],
        text_folder: base_folder(root).to_owned(),
    })
}

/// What a pipeline of the reference library runs; None for other families. Several pipelines run
/// the same network.
fn kind_of(class: &str) -> Option<FluxKind> {
    match class {
        "FluxPipeline" | "FluxImg2ImgPipeline" | "FluxInpaintPipeline" => Some(FluxKind::Text),
        "FluxKontextPipeline" | "FluxKontextInpaintPipeline" => Some(FluxKind::Kontext),
        "FluxFillPipeline" => Some(FluxKind::Fill),
        "FluxControlPipeline" | "FluxControlImg2ImgPipeline" | "FluxControlInpaintPipeline" => {
            Some(FluxKind::Control)
        }
        _ => None,
    }
}

/// The release, as far as the kind tells.
fn variant_of(kind: FluxKind, has_guidance: bool) -> &'static str {
    match (kind, has_guidance) {
        (FluxKind::Text, true) => "dev",
        (FluxKind::Text, false) => "schnell",
        (FluxKind::Kontext, _) => "kontext",
        (FluxKind::Fill, _) => "fill",
        (FluxKind::Control, _) => "control",
        (FluxKind::Redux, _) => "redux",
    }
}

fn recognise_folders(root: &Path, index: &ModelIndex, sources: &PartSources) -> Result<Recognised> {
    let Some(kind) = kind_of(&index.class) else {
        return Err(Error::unknown_layout(
            root,
            format!(
                "it is a {}; known are: {}",
                index.class,
                Family::ALL.map(Family::title).join(", ")
            ),
        ));
    };
    let config_of = |component: Component| {
        let path = root.join(component.as_str()).join("config.json");
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::missing(
                root,
                format!("{}/config.json", component.as_str()),
            ))
        }
    };
    let scheduler = root.join("scheduler").join("scheduler_config.json");
    let mut flux = FluxParts {
        kind,
        transformer: FluxConfig::read(&config_of(Component::Transformer)?)?,
        vae: VaeConfig::read(&config_of(Component::Vae)?)?,
        clip: ClipConfig::read(&config_of(Component::TextEncoder)?)?,
        t5: T5Config::read(&config_of(Component::TextEncoder2)?)?,
        scheduler: SchedulerConfig::read(&scheduler)?,
        redux: None,
    };
    let mut origins =
        Component::CORE.map(|component| Origin::Folder(root.join(component.as_str())));
    let search = Search {
        folder: root,
        same: None,
        sources,
    };
    if let Some((origin, vae)) =
        search.find_chosen(&VAE, &|network| choose_vae(network, &flux.transformer))?
    {
        (origins[Component::Vae as usize], flux.vae) = (origin, vae);
    }
    if let Some((origin, clip)) =
        search.find_chosen(&CLIP, &|network| choose_clip(network, &flux.transformer))?
    {
        (origins[Component::TextEncoder as usize], flux.clip) = (origin, clip);
    }
    if let Some((origin, t5)) =
        search.find_chosen(&T5, &|network| choose_t5(network, &flux.transformer))?
    {
        (origins[Component::TextEncoder2 as usize], flux.t5) = (origin, t5);
    }
    Ok(Recognised {
        origins,
        variant: variant_of(kind, flux.transformer.has_guidance),
        flux,
    })
}

/// Whether a file may hold weights, by its name.
pub(crate) fn has_weights_name(name: &str) -> bool {
    [".safetensors", ".sft", ".gguf"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// The one file of a folder that holds a transformer.
pub(crate) fn find_transformer_file(root: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    let mut fault = None;
    let names = list_files(root)?;
    for name in names.iter().filter(|name| has_weights_name(name)) {
        let path = root.join(name);
        match find_transformer(&path) {
            Ok(Some(_)) => found.push(path),
            Ok(None) => {}
            Err(error) => fault = Some(error),
        }
    }
    if let (true, None, Some(name)) = (found.is_empty(), &fault, find_foreign_file(&names)) {
        // Refused by its content, in words.
        Header::open(&root.join(name))?;
    }
    match (found.as_slice(), fault) {
        ([_], _) => Ok(found.remove(0)),
        ([], Some(fault)) => Err(fault),
        ([], None) => Err(Error::unknown_layout(
            root,
            "there is neither a model_index.json nor a FLUX.1 file (.safetensors, .gguf) in it",
        )),
        _ => Err(Error::unknown_layout(
            root,
            "there are several transformers in it; name one of the files instead of the folder",
        )),
    }
}

/// Weights of a kind that is not read.
fn find_foreign_file(names: &[String]) -> Option<&String> {
    names.iter().find(|name| {
        [".ckpt", ".pt", ".pth", ".bin"]
            .iter()
            .any(|ending| name.ends_with(ending))
    })
}

/// A file's FLUX.1 transformer.
fn find_transformer(file: &Path) -> Result<Option<(WeightSet, FilePart, FluxConfig)>> {
    let set = WeightSet::open_file(file)?;
    let found = find_networks(&set)?
        .into_iter()
        .find_map(|part| match &part.network {
            Network::Flux(config) => {
                let config = config.clone();
                Some((part, config))
            }
            _ => None,
        });
    Ok(found.map(|(part, config)| (set, part, config)))
}

/// A transformer in a file of its own; the other parts are in the same file or beside it.
fn recognise_files(root: &Path, file: &Path, sources: &PartSources) -> Result<Recognised> {
    let folder = base_folder(root);
    let Some((set, part, mut transformer)) = find_transformer(file)? else {
        // Says what it is instead, if that is known.
        identify_set(&WeightSet::open_file(file)?)?;
        return Err(Error::unknown_layout(
            file,
            "its tensors have none of the names that FLUX.1 uses",
        ));
    };
    // A configuration beside the file knows what no shape tells.
    let beside = folder.join("transformer").join("config.json");
    if beside.is_file() {
        transformer.axes_dims = FluxConfig::read(&beside)?.axes_dims;
        transformer
            .check()
            .map_err(|reason| Error::damaged(&beside, reason))?;
    }
    let search = Search {
        folder,
        same: Some(&set),
        sources,
    };
    let (vae_origin, vae) = search.find(&VAE, VaeConfig::read, |network| {
        choose_vae(network, &transformer)
    })?;
    let (clip_origin, clip) = search.find(&CLIP, ClipConfig::read, |network| {
        choose_clip(network, &transformer)
    })?;
    let (t5_origin, t5) = search.find(&T5, T5Config::read, |network| {
        choose_t5(network, &transformer)
    })?;
    let scheduler = folder.join("scheduler").join("scheduler_config.json");
    let scheduler = if scheduler.is_file() {
        SchedulerConfig::read(&scheduler)?
    } else {
        SchedulerConfig::of_flux(transformer.has_guidance)
    };
    let release = identify_set(&set)?
        .release
        .and_then(|release| release.variants.first().copied());
    let kind = match (
        FluxKind::of_channels(transformer.in_channels, transformer.out_width()),
        release,
    ) {
        (Some(FluxKind::Text), Some("kontext")) => FluxKind::Kontext,
        (kind, _) => kind.unwrap_or(FluxKind::Text),
    };
    let variant = match (kind, release) {
        (FluxKind::Control, Some(release @ ("canny" | "depth"))) if is_named(file, release) => {
            release
        }
        _ => variant_of(kind, transformer.has_guidance),
    };
    let transformer_origin = Origin::File {
        file: file.to_owned(),
        part,
    };
    Ok(Recognised {
        origins: [transformer_origin, vae_origin, clip_origin, t5_origin],
        flux: FluxParts {
            kind,
            transformer,
            vae,
            clip,
            t5,
            scheduler,
            redux: None,
        },
        variant,
    })
}

/// SD3's VAE has the same shapes.
const VAE: Wanted = Wanted {
    name: "vae",
    title: "the VAE",
    likely: &["ae", "flux"],
    unlikely: &["sd3", "qwen"],
};

const CLIP: Wanted = Wanted {
    name: "text_encoder",
    title: "the CLIP text encoder",
    likely: &["clip_l"],
    unlikely: &["sd3", "hunyuan"],
};

const T5: Wanted = Wanted {
    name: "text_encoder_2",
    title: "the T5 text encoder",
    likely: &["t5xxl", "t5-v1_1"],
    unlikely: &["flan", "chroma", "pile"],
};

/// A VAE whose latents the network takes.
pub(crate) fn choose_vae(network: &Network, transformer: &FluxConfig) -> Option<VaeConfig> {
    match network {
        Network::KlVae(config) if 4 * config.latent_channels == transformer.out_width() => {
            Some(config.clone())
        }
        _ => None,
    }
}

/// FLUX.1 uses OpenAI's CLIP, whatever its width says about others.
pub(crate) fn choose_clip(network: &Network, transformer: &FluxConfig) -> Option<ClipConfig> {
    match network {
        Network::Clip { config, .. } if config.hidden == transformer.pooled_dim => {
            Some(ClipConfig {
                activation: TextActivation::QuickGelu,
                ..config.clone()
            })
        }
        _ => None,
    }
}

/// A T5 of the width that the network reads.
pub(crate) fn choose_t5(network: &Network, transformer: &FluxConfig) -> Option<T5Config> {
    match network {
        Network::T5 {
            config,
            is_umt5: false,
        } if config.hidden == transformer.joint_dim => Some(config.clone()),
        _ => None,
    }
}

/// Whether a file's name has a word in it.
fn is_named(file: &Path, word: &str) -> bool {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().to_lowercase().contains(word)
}

/// Whether text can be cut into tokens: a folder of the reference library has the files for it, and
/// an encoder in a file has them beside it or was made for a tokenizer that comes with the program.
fn check_tokenizers(root: &Path, flux: &FluxParts) -> Result<()> {
    let folder = base_folder(root);
    let is_published = root.join("model_index.json").is_file();
    for (tokenizer, vocab) in [
        (Tokenizer::Clip, flux.clip.vocab),
        (Tokenizer::T5, flux.t5.vocab),
    ] {
        let own = folder.join(tokenizer.as_str());
        let is_built_in = !is_published && tokenizer.fits_built_in(vocab);
        if !is_built_in && !tokenizer.is_in(&own) {
            let names = tokenizer.file_sets().map(|files| files.join(" and "));
            return Err(Error::missing(own, names.join(", or ")));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct TokenizerSettings {
    model_max_length: Option<f64>,
}

fn read_max_text_tokens(folder: &Path) -> Result<Option<usize>> {
    let path = folder
        .join(Tokenizer::T5.as_str())
        .join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let settings: TokenizerSettings = read_config(&path)?;
    // Tokenizers without a limit write a huge number.
    Ok(settings
        .model_max_length
        .filter(|length| (1.0..=65536.0).contains(length))
        .map(|length| length as usize))
}

/// A few tensors of a component against its configuration: enough to tell a wrong pair early.
/// The network's own loading checks every shape.
fn check_component(component: Component, set: &WeightSet, flux: &FluxParts) -> Result<()> {
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
    match component {
        Component::Transformer => {
            let config = &flux.transformer;
            check_shape("x_embedder.weight", &[config.hidden(), config.in_channels])?;
            check_shape(
                "context_embedder.weight",
                &[config.hidden(), config.joint_dim],
            )?;
            check_count("transformer_blocks.", config.layers)?;
            check_count("single_transformer_blocks.", config.single_layers)
        }
        Component::Vae => {
            let config = &flux.vae;
            let widest = config.block_out_channels.last().copied().unwrap_or(0);
            check_shape(
                "decoder.conv_in.weight",
                &[widest, config.latent_channels, 3, 3],
            )?;
            check_count("decoder.up_blocks.", config.block_out_channels.len())
        }
        Component::TextEncoder => {
            let config = &flux.clip;
            check_shape(
                "embeddings.token_embedding.weight",
                &[config.vocab, config.hidden],
            )?;
            check_count("encoder.layers.", config.layers)
        }
        Component::TextEncoder2 => {
            let config = &flux.t5;
            check_shape("shared.weight", &[config.vocab, config.hidden])?;
            check_count("encoder.block.", config.layers)
        }
        // They are held to each other where they are found.
        Component::ImageEncoder | Component::ImageEmbedder => Ok(()),
    }
}

/// Whether the components fit each other.
fn check_parts(root: &Path, flux: &FluxParts) -> Result<()> {
    let FluxParts {
        transformer,
        vae,
        clip,
        t5,
        ..
    } = flux;
    let packed = 4 * vae.latent_channels;
    let by_width = FluxKind::of_channels(transformer.in_channels, packed);
    let fits = match flux.kind {
        FluxKind::Kontext | FluxKind::Redux => by_width == Some(FluxKind::Text),
        kind => by_width == Some(kind),
    };
    if !fits || transformer.out_width() != packed {
        return Err(Error::unsupported(
            root,
            format!(
                "its transformer takes tokens of {} channels and gives {}; with this VAE text to \
                 picture has {packed} and {packed}, control twice as many in, Fill {}",
                transformer.in_channels,
                transformer.out_width(),
                2 * packed + 256
            ),
        ));
    }
    if transformer.joint_dim != t5.hidden || transformer.pooled_dim != clip.hidden {
        return Err(Error::damaged(
            root,
            format!(
                "its transformer expects text of widths {} (T5) and {} (CLIP), the text encoders \
                 give {} and {}",
                transformer.joint_dim, transformer.pooled_dim, t5.hidden, clip.hidden
            ),
        ));
    }
    Ok(())
}
