//! FLUX.1 Redux: a vision encoder and a projection that give the base model tokens of pictures beside
//! those of the text. In the reference library's folder or in the files that the authors and ComfyUI
//! publish, and with the base model beside, as people have them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Component, Error, FilePart, FluxKind, ModelLayout, Network, Parts, ReduxConfig, ReduxParts,
    Result, SiglipConfig, WeightSet,
    detect::{detect_flux, find_transformer_file, has_weights_name},
    glance::{find_networks, glance},
    json::{read_config, read_file_bounded},
    layout::{Origin, base_folder, list_weight_files, open_origin, path_from},
    maps,
    sd::ModelIndex,
    search::{PartSources, Search, Wanted, list_elsewhere},
    shards::list_files,
};

/// The pipeline of the reference library that makes tokens of pictures.
const CLASS: &str = "FluxPriorReduxPipeline";

/// Folders of the base model, the first one first, however they are capitalised.
const BASES: [&str; 3] = ["FLUX.1-dev", "flux-dev", "flux1-dev"];

/// The base model in the cache of the `huggingface_hub` library.
const HUB_BASE: &str = "models--black-forest-labs--FLUX.1-dev";

/// Folders with more things in them are no folders of models.
const MAX_ENTRIES: usize = 10_000;

/// Where the projection lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Adapter {
    /// A folder of the reference library.
    Folder,
    /// A file with it.
    File(PathBuf),
}

/// Redux in a folder or a file. None: it is something else. A folder that holds a whole model beside
/// the projection is Redux if its name says so; else the projection is only kept there.
pub(crate) fn find(root: &Path) -> Result<Option<Adapter>> {
    if root.is_file() {
        return Ok(holds_projection(root).then(|| Adapter::File(root.to_owned())));
    }
    let index = root.join("model_index.json");
    if index.is_file() {
        let index: ModelIndex = read_config(&index)?;
        return Ok((index.class == CLASS).then_some(Adapter::Folder));
    }
    let mut file = None;
    for name in list_files(root)?.iter().filter(|n| has_weights_name(n)) {
        if holds_projection(&root.join(name)) {
            file = Some(root.join(name));
            break;
        }
    }
    let is_called_so = || {
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        name.to_lowercase().contains("redux")
    };
    Ok(file
        .filter(|_| is_called_so() || find_transformer_file(root).is_err())
        .map(Adapter::File))
}

/// What cannot be read is told by whoever needs it.
fn holds_projection(file: &Path) -> bool {
    let is_redux = |part: &FilePart| matches!(part.network, Network::FluxRedux(_));
    glance(file).networks().iter().any(is_redux)
}

/// Recognises Redux together with its base.
pub(crate) fn detect(root: &Path, adapter: &Adapter, sources: &PartSources) -> Result<ModelLayout> {
    let folder = base_folder(root);
    let (vision_origin, vision, embedder_origin, embedder) = match adapter {
        Adapter::Folder => read_folders(root)?,
        Adapter::File(file) => read_files(folder, file, sources)?,
    };
    let mut layout = detect_base(root, folder, sources)?;
    let (base, Parts::Flux(parts)) = (layout.root.clone(), &mut layout.parts) else {
        return Err(Error::unsupported(
            &layout.root,
            "it is not the FLUX.1 dev that Redux needs",
        ));
    };
    if parts.kind != FluxKind::Text {
        return Err(Error::unsupported(
            base,
            format!(
                "it is FLUX.1 {}; Redux works with FLUX.1 dev",
                layout.variant
            ),
        ));
    }
    if vision.hidden != embedder.image_dim || embedder.text_dim != parts.transformer.joint_dim {
        return Err(Error::damaged(
            root,
            format!(
                "its projection is from a width of {} to {}, its vision encoder has {} and the \
                 text of its base {}",
                embedder.image_dim, embedder.text_dim, vision.hidden, parts.transformer.joint_dim
            ),
        ));
    }
    (parts.kind, parts.redux) = (FluxKind::Redux, Some(ReduxParts { vision, embedder }));
    layout.variant = "redux".to_owned();
    let ModelLayout {
        weights, elsewhere, ..
    } = &mut layout;
    for file in weights {
        if elsewhere.contains_key(&file.component) {
            continue;
        }
        file.file = path_from(folder, &base_folder(&base).join(&file.file));
    }
    layout.root = root.to_owned();
    let own = [
        (Component::ImageEncoder, vision_origin),
        (Component::ImageEmbedder, embedder_origin),
    ];
    let named = (own.iter()).map(|(component, origin)| (component.as_str(), origin));
    layout
        .elsewhere
        .extend(list_elsewhere(root, sources, named));
    for (component, origin) in own {
        let set = open_origin(&origin, component, &layout.parts)?;
        check(component, &set, &layout)?;
        let slot = component as usize;
        layout.component_bytes[slot] = set.total_bytes();
        layout.component_elements[slot] = set.total_elements();
        for file in list_weight_files(root, component, &set)? {
            if layout.weights.iter().all(|other| other.file != file.file) {
                layout.weights.push(file);
            }
        }
        layout.origins[slot] = origin;
    }
    Ok(layout)
}

type Found = (Origin, SiglipConfig, Origin, ReduxConfig);

fn read_folders(root: &Path) -> Result<Found> {
    let config = |component: Component| {
        let path = root.join(component.as_str()).join("config.json");
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::missing(
                root,
                format!("{}/config.json", component.as_str()),
            )),
        }
    };
    let origin = |component: Component| Origin::Folder(root.join(component.as_str()));
    Ok((
        origin(Component::ImageEncoder),
        SiglipConfig::read(&config(Component::ImageEncoder)?)?,
        origin(Component::ImageEmbedder),
        ReduxConfig::read(&config(Component::ImageEmbedder)?)?,
    ))
}

fn read_files(folder: &Path, file: &Path, sources: &PartSources) -> Result<Found> {
    let set = WeightSet::open_file(file)?;
    let projection = find_networks(&set)?
        .into_iter()
        .find_map(|part| match part.network {
            Network::FluxRedux(config) => Some((part, config)),
            _ => None,
        });
    let Some((part, embedder)) = projection else {
        return Err(Error::unknown_layout(file, "it holds no FLUX.1 Redux"));
    };
    let encoder = Component::ImageEncoder;
    let search = Search {
        folder,
        same: Some(&set),
        sources,
    };
    let (vision_origin, vision) = search.find(
        &Wanted::plain((encoder.as_str(), encoder.title())),
        SiglipConfig::read,
        |network| match network {
            Network::Siglip(config) if config.hidden == embedder.image_dim => Some(config.clone()),
            _ => None,
        },
    )?;
    let embedder_origin = Origin::File {
        file: file.to_owned(),
        part,
    };
    Ok((vision_origin, vision, embedder_origin, embedder))
}

/// The model that Redux works with: in the same folder, in a folder below it or beside it that is
/// called like the published one, or in the download cache.
fn detect_base(root: &Path, folder: &Path, sources: &PartSources) -> Result<ModelLayout> {
    if !folder.join("model_index.json").is_file() && find_transformer_file(folder).is_ok() {
        return detect_flux(folder, sources);
    }
    let beside = folder.parent();
    for place in [Some(folder), beside].into_iter().flatten() {
        if let Some(base) = find_folder(place) {
            return detect_flux(&base, sources);
        }
    }
    match find_in_hub(folder) {
        Some(base) => detect_flux(&base, sources),
        None => Err(Error::missing(
            beside.unwrap_or(root),
            "FLUX.1 dev, which Redux works with (folder FLUX.1-dev beside that of Redux)",
        )),
    }
}

/// A folder in `place` that is called like the base model.
fn find_folder(place: &Path) -> Option<PathBuf> {
    let here = match place.as_os_str().is_empty() {
        true => Path::new("."),
        false => place,
    };
    let names: Vec<_> = fs::read_dir(here)
        .ok()?
        .take(MAX_ENTRIES)
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    BASES.iter().find_map(|base| {
        let mut named = names.iter().filter(|name| name.eq_ignore_ascii_case(base));
        let name = named.find(|name| place.join(name).is_dir())?;
        Some(place.join(name))
    })
}

/// The current revision of the base in the cache that this folder is a revision in.
fn find_in_hub(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.parent().filter(|path| path.ends_with("snapshots"))?;
    let base = snapshots.parent()?.parent()?.join(HUB_BASE);
    let revision = read_file_bounded(&base.join("refs/main"), 128).ok()?;
    let revision = str::from_utf8(&revision).ok()?.trim();
    // A name with parts could leave the cache.
    let is_name = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name
        .then(|| base.join("snapshots").join(revision))
        .filter(|path| path.is_dir())
}

/// A few tensors against the configurations; loading checks every shape.
fn check(component: Component, set: &WeightSet, layout: &ModelLayout) -> Result<()> {
    let Some(redux) = layout.flux().and_then(|parts| parts.redux.as_ref()) else {
        return Ok(());
    };
    let (vision, embedder) = (&redux.vision, &redux.embedder);
    let patch = vision.patch_size;
    let wanted = match component {
        Component::ImageEncoder => vec![
            (
                "embeddings.patch_embedding.weight",
                vec![vision.hidden, 3, patch, patch],
            ),
            (
                "embeddings.position_embedding.weight",
                vec![vision.tokens(), vision.hidden],
            ),
        ],
        _ => vec![
            ("redux_up.weight", vec![embedder.wide(), embedder.image_dim]),
            (
                "redux_down.weight",
                vec![embedder.text_dim, embedder.wide()],
            ),
        ],
    };
    for (name, expected) in wanted {
        let shape = &set.get(name)?.shape;
        if *shape != expected {
            return Err(Error::damaged(
                set.path(),
                format!(
                    "tensor {name:?} has the shape {shape:?}, the configuration asks for \
                     {expected:?}"
                ),
            ));
        }
    }
    let blocks = maps::count_blocks(set, "encoder.layers.");
    if component == Component::ImageEncoder && blocks != vision.layers {
        return Err(Error::damaged(
            set.path(),
            format!(
                "it has {blocks} blocks, the configuration asks for {}",
                vision.layers
            ),
        ));
    }
    Ok(())
}
