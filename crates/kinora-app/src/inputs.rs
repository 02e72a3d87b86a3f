//! Pictures that were handed in: kept by content below the data folder for as long as a job or a
//! result speaks of them.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use kinora_core::{AssetKind, Code, Digest, PictureRef, Plan, PlannedPicture, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    app::App,
    bytes::{format_bytes, read_bounded, write_whole},
    error::{Error, Result},
};

/// The largest picture file that is taken, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// A picture that nothing speaks of yet is kept this long: someone is still writing the prompt.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// A picture that was handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// How requests name it.
    pub reference: PictureRef,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
}

/// The pictures that were handed in.
#[derive(Debug)]
pub(crate) struct Inputs {
    folder: PathBuf,
    /// Width and height of those that were looked at.
    sizes: Mutex<HashMap<Digest, (u32, u32)>>,
}

impl Inputs {
    /// The pictures below a folder, which is made with the first one.
    pub fn below(folder: PathBuf) -> Self {
        Self {
            folder,
            sizes: Mutex::default(),
        }
    }

    /// Where the file of that content lies, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.as_str())
    }

    /// Keeps a picture file as it is.
    ///
    /// # Errors
    /// It is too large, no picture, or cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> Result<Input> {
        if bytes.len() > MAX_BYTES {
            return Err(too_large(bytes.len()));
        }
        let picture = kinora_media::decode(bytes)?;
        let digest = digest_of(bytes);
        let path = self.path(&digest);
        // What is there under this name is this very content, and is now wanted again.
        if !touch(&path) {
            write_whole(&path, bytes).map_err(|error| Error::io("write", &path, &error))?;
        }
        self.remember(&digest, (picture.width, picture.height));
        Ok(Input {
            reference: PictureRef::Input(digest),
            width: picture.width,
            height: picture.height,
            bytes: bytes.len() as u64,
        })
    }

    /// The picture of that content as plans name it.
    pub fn find(&self, digest: &Digest) -> Result<PlannedPicture, Problem> {
        let path = self.path(digest);
        let known = {
            let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
            sizes.get(digest).copied()
        };
        let size = match known.filter(|_| path.is_file()) {
            Some(size) => size,
            None => {
                let picture = read_bounded(&path).ok();
                let picture = picture.and_then(|bytes| kinora_media::decode(&bytes).ok());
                let picture = picture.ok_or_else(|| {
                    Problem::new(
                        Code::NotFound,
                        "the picture is not here (any more)",
                        "Hand it in again.",
                    )
                })?;
                let size = (picture.width, picture.height);
                self.remember(digest, size);
                size
            }
        };
        Ok(PlannedPicture {
            sha256: digest.clone(),
            width: size.0,
            height: size.1,
            asset: None,
            path,
        })
    }

    fn remember(&self, digest: &Digest, size: (u32, u32)) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.insert(digest.clone(), size);
    }

    /// Keeps a result's file under its content, as a second name of it where the disk can.
    fn keep_file(&self, source: &Path, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        if touch(&path) {
            return Ok(());
        }
        let bytes = read_bounded(source).map_err(|error| Error::io("read", source, &error))?;
        if digest_of(&bytes) != *digest {
            return Err(Problem::new(
                Code::Conflict,
                format!("{} was changed since it was made", source.display()),
                "Hand the changed picture in as a file.",
            )
            .into());
        }
        write_whole(&path, &bytes).map_err(|error| Error::io("write", &path, &error))
    }

    /// Removes what nothing speaks of and nobody handed in lately; only says so with `dry_run`.
    /// Answers with count and bytes.
    pub fn remove_unused(&self, used: &HashSet<Digest>, dry_run: bool) -> Result<(u64, u64)> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, 0)),
            Err(error) => return Err(Error::io("read", &self.folder, &error)),
        };
        let (mut count, mut bytes) = (0, 0);
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let digest = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let is_used = digest.is_some_and(|digest| used.contains(&digest));
            let age = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok());
            if is_used || !metadata.is_file() || age.is_none_or(|age| age < GRACE) {
                continue;
            }
            if !dry_run {
                let path = entry.path();
                fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
            }
            count += 1;
            bytes += metadata.len();
        }
        Ok((count, bytes))
    }
}

/// Whether the file is there; its time becomes now.
fn touch(path: &Path) -> bool {
    match fs::File::options().append(true).open(path) {
        Ok(file) => {
            // Best effort: an older time only means that it may go earlier.
            let _ = file.set_modified(SystemTime::now());
            true
        }
        Err(_) => false,
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let digest = Sha256::digest(bytes);
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.parse().expect("a SHA-256 has 64 hexadecimal digits")
}

fn too_large(bytes: usize) -> Error {
    Problem::in_field(
        "file",
        format!(
            "the picture has {}; at most {} are taken",
            format_bytes(bytes as u64),
            format_bytes(MAX_BYTES as u64)
        ),
        "Make it smaller, or save it as JPEG or WebP.",
    )
    .into()
}

/// Keeps a picture that is handed in. Blocks.
///
/// # Errors
/// It is too large, no picture, or cannot be written.
pub fn keep(app: &App, bytes: &[u8]) -> Result<Input> {
    app.inputs().keep(bytes)
}

/// The file behind a picture that a request names. Blocks for as long as it takes to look.
pub(crate) fn find(app: &App, reference: &PictureRef) -> Result<PlannedPicture, Problem> {
    let id = match reference {
        PictureRef::Input(digest) => return app.inputs().find(digest),
        PictureRef::Asset(id) => *id,
    };
    let missing = || {
        Problem::new(
            Code::NotFound,
            "the picture is not in the gallery (any more)",
            "Choose another one, or hand it in as a file.",
        )
    };
    let asset = app
        .store()
        .read(|db| kinora_store::assets::get(db, id))
        .map_err(|error| Error::from(error).into_problems().first)?
        .ok_or_else(missing)?;
    if asset.kind != AssetKind::Image {
        return Err(Problem::new(
            Code::UnsupportedFile,
            "that result is a clip, not a picture",
            "Choose a picture, or save a frame of the clip.",
        ));
    }
    let sha256: Digest = asset.sha256.parse().map_err(|_| missing())?;
    Ok(PlannedPicture {
        path: app.inputs().path(&sha256),
        sha256,
        width: asset.width,
        height: asset.height,
        asset: Some(id),
    })
}

/// Makes sure that the pictures of plans are there for as long as their jobs need them: results are
/// kept a second time, so that they can be thrown away meanwhile.
///
/// # Errors
/// A result's file is gone or was changed, or the disk is full.
pub(crate) async fn secure(app: &Arc<App>, plans: impl Iterator<Item = &Plan>) -> Result<()> {
    let pictures: HashSet<(Digest, kinora_core::AssetId)> = plans
        .filter_map(|plan| plan.source.as_ref())
        .flat_map(|source| source.pictures())
        .filter_map(|picture| Some((picture.sha256.clone(), picture.asset?)))
        .collect();
    if pictures.is_empty() {
        return Ok(());
    }
    let app = Arc::clone(app);
    let work = move || {
        for (digest, id) in pictures {
            // Kept already, the result may be gone for good.
            if touch(&app.inputs().path(&digest)) {
                continue;
            }
            let asset = app
                .store()
                .read(|db| kinora_store::assets::get(db, id))?
                .ok_or_else(|| Error::not_found(format_args!("picture {id}")))?;
            app.inputs().keep_file(&app.asset_file(&asset), &digest)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(colour: [u8; 3]) -> Vec<u8> {
        let picture = kinora_media::Picture::filled(8, 4, colour);
        kinora_media::encode_jpeg(&picture.rgb, 8, 4, 90).unwrap()
    }

    #[test]
    fn a_picture_is_kept_once_and_found_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::below(folder.path().join("inputs"));
        let kept = inputs.keep(&jpeg([1, 2, 3])).unwrap();
        assert_eq!((kept.width, kept.height), (8, 4));
        assert_eq!(inputs.keep(&jpeg([1, 2, 3])).unwrap(), kept);
        let PictureRef::Input(digest) = &kept.reference else {
            panic!("{kept:?}");
        };
        // Also by one who has not seen it before.
        let other = Inputs::below(folder.path().join("inputs"));
        let found = other.find(digest).unwrap();
        assert_eq!((found.width, found.height), (8, 4));
        assert_eq!(fs::read(&found.path).unwrap(), jpeg([1, 2, 3]));
        assert_eq!(
            fs::read_dir(folder.path().join("inputs")).unwrap().count(),
            1
        );
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::below(folder.path().to_owned());
        assert!(inputs.keep(b"GIF? no").is_err());
        let mut cut = jpeg([9, 9, 9]);
        cut.truncate(40);
        assert!(inputs.keep(&cut).is_err());
        assert!(inputs.keep(&vec![0; MAX_BYTES + 1]).is_err());
        let digest: Digest = "ab".repeat(32).parse().unwrap();
        assert_eq!(inputs.find(&digest).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn only_old_pictures_that_nothing_speaks_of_go() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::below(folder.path().to_owned());
        let digests: Vec<Digest> = [[1; 3], [2; 3], [3; 3]]
            .into_iter()
            .map(
                |colour| match inputs.keep(&jpeg(colour)).unwrap().reference {
                    PictureRef::Input(digest) => digest,
                    other => panic!("{other}"),
                },
            )
            .collect();
        let old = SystemTime::now() - 2 * GRACE;
        for digest in &digests[..2] {
            let file = fs::File::options().append(true).open(inputs.path(digest));
            file.unwrap().set_modified(old).unwrap();
        }
        let used = HashSet::from([digests[0].clone()]);
        assert_eq!(inputs.remove_unused(&used, true).unwrap().0, 1);
        assert!(inputs.path(&digests[1]).exists());
        assert_eq!(inputs.remove_unused(&used, false).unwrap().0, 1);
        let left: Vec<bool> = digests.iter().map(|d| inputs.path(d).exists()).collect();
        assert_eq!(left, [true, false, true]);
    }
}
