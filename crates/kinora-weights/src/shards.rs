//! Which safetensors files make up one component's folder: one file, or shards with an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Component as PathPart, Path, PathBuf},
};

use serde::Deserialize;

use crate::{Error, Result, json::read_json_bounded};

/// The largest published index files are below 1 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The stems that the reference libraries write, the preferred one first.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// The files of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shards {
    /// Files in the order of their names.
    pub files: Vec<PathBuf>,
    /// File of each tensor, as the index tells. None: there is no index, and one file.
    pub index: Option<BTreeMap<String, PathBuf>>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights in a component's folder.
pub(crate) fn find_shards(folder: &Path) -> Result<Shards> {
    let names = list_files(folder)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    for stem in STEMS {
        let index = format!("{stem}.safetensors.index.json");
        if has(&index) {
            return read_index(&folder.join(index));
        }
        let file = format!("{stem}.safetensors");
        if has(&file) {
            return Ok(Shards::single(folder.join(file)));
        }
    }
    let ending_in = |ending: &str| -> Vec<&String> {
        names.iter().filter(|name| name.ends_with(ending)).collect()
    };
    let indices = ending_in(".safetensors.index.json");
    let files = ending_in(".safetensors");
    match (indices.as_slice(), files.as_slice()) {
        ([index], _) => read_index(&folder.join(index)),
        ([], [file]) => Ok(Shards::single(folder.join(file))),
        ([], []) => Err(explain_absence(folder, &names)),
        _ => Err(Error::unknown_layout(
            folder,
            format!(
                "there are several sets of weights in it and none has the usual name: {}",
                files
                    .iter()
                    .map(|name| name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        )),
    }
}

impl Shards {
    fn single(file: PathBuf) -> Self {
        Self {
            files: vec![file],
            index: None,
        }
    }
}

/// Names of the files in a folder, sorted. Names that are not UTF-8 belong to no model.
pub(crate) fn list_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_file()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn explain_absence(folder: &Path, names: &[String]) -> Error {
    let pickle = names.iter().find(|name| {
        matches!(
            Path::new(name).extension().and_then(OsStr::to_str),
            Some("bin" | "pt" | "pth" | "ckpt")
        )
    });
    match pickle {
        Some(name) => Error::unsupported(
            folder.join(name),
            "it is a pickle, which can run programs when it is opened; get the model as \
             .safetensors, or convert it",
        ),
        None => Error::missing(folder, "a .safetensors file"),
    }
}

fn read_index(path: &Path) -> Result<Shards> {
    let index: Index = read_json_bounded(path, MAX_INDEX_BYTES)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = BTreeSet::new();
    let mut map = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        // Shards lie beside their index; a name with folders in it could leave the model.
        let mut parts = Path::new(&file).components();
        let is_plain = matches!(
            (parts.next(), parts.next()),
            (Some(PathPart::Normal(name)), None) if name == OsStr::new(&file)
        );
        if !is_plain {
            return Err(Error::damaged(
                path,
                format!("it names the shard {file:?}, which is not a plain file name"),
            ));
        }
        let file = folder.join(file);
        files.insert(file.clone());
        map.insert(tensor, file);
    }
    if files.is_empty() {
        return Err(Error::damaged(path, "it names no tensor"));
    }
    Ok(Shards {
        files: files.into_iter().collect(),
        index: Some(map),
    })
}
