//! Files for hosts to show: pictures, thumbnails (made when first asked for), previews, contact
//! sheets. Hosts name them by id; which file that is, is decided here.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kinora_core::{
    Asset, AssetId, AssetKind, BatchId, ClipFormat, Code, Digest, FileFormat, ImageFormat, JobId,
    Problem,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    app::App,
    bytes::{read_bounded, write_whole},
    error::{Error, Result},
};

/// Thumbnails that are made at a time: each decodes a whole picture.
static MAKERS: Semaphore = Semaphore::const_new(2);

/// A file as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFile {
    /// Where.
    pub path: PathBuf,
    /// Its format.
    pub format: FileFormat,
    /// File name for whoever saves it.
    pub name: String,
    /// What changes when the content does; None: the file is written anew in place.
    pub version: Option<String>,
}

/// The file of a stored picture.
///
/// # Errors
/// `not_found`; `forbidden` when it lies outside the outputs folder, by a link say.
pub async fn find_asset(app: &Arc<App>, id: AssetId) -> Result<MediaFile> {
    let asset = app.queue().asset(id).await?;
    let path = find_file(app, &asset).await?;
    let name = asset.path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(MediaFile {
        path,
        format: asset.format,
        name,
        version: Some(asset.sha256),
    })
}

/// A small copy of a stored picture, whose longest side is `longest` pixels.
///
/// # Errors
/// As [`find_asset`]; `invalid_input` for a size that there is not; and what makes the picture
/// unreadable.
pub async fn find_thumbnail(app: &Arc<App>, id: AssetId, longest: u32) -> Result<MediaFile> {
    let sizes = kinora_media::THUMBNAIL_SIZES;
    if !sizes.contains(&longest) {
        let message = format!("there are no thumbnails of {longest} pixels");
        let hint = format!("Ask for one of {sizes:?}.");
        return Err(Problem::in_field("size", message, hint).into());
    }
    let asset = app.queue().asset(id).await?;
    // By content: equal pictures share one, and a removed picture's leads nobody astray.
    let version = format!("{}-{longest}", asset.sha256);
    let file = MediaFile {
        path: app.config().thumbnails_dir().join(format!("{version}.jpg")),
        format: ImageFormat::Jpeg.into(),
        name: format!("{id}-{longest}.jpg"),
        version: Some(version),
    };
    if tokio::fs::try_exists(&file.path).await.unwrap_or(false) {
        return Ok(file);
    }
    let source = find_file(app, &asset).await?;
    let permit = MAKERS.acquire().await.map_err(Error::internal)?;
    let target = file.path.clone();
    let kind = asset.kind;
    let made = spawn_blocking(move || make_thumbnail(&source, &target, kind, longest)).await;
    drop(permit);
    made.map_err(Error::internal)??;
    Ok(file)
}

/// Of a clip the first picture.
fn make_thumbnail(source: &Path, target: &Path, kind: AssetKind, longest: u32) -> Result<()> {
    let small = match kind {
        AssetKind::Image => {
            let bytes = read_bounded(source).map_err(|e| Error::io("read", source, &e))?;
            kinora_media::thumbnail(&bytes, longest)?
        }
        AssetKind::Video => kinora_media::clip_thumbnail(source, longest)?,
    };
    write_whole(target, &small).map_err(|e| Error::io("write", target, &e))
}

/// The latest preview of a running job; with `is_moving` that of a clip as it moves, where there is
/// one.
///
/// # Errors
/// `not_found` when the job has none.
pub fn find_preview(app: &App, id: JobId, is_moving: bool) -> Result<MediaFile> {
    let formats = [
        is_moving.then_some(FileFormat::Clip(ClipFormat::AnimatedWebp)),
        Some(FileFormat::Image(ImageFormat::Jpeg)),
    ];
    for format in formats.into_iter().flatten() {
        let ending = format.extension();
        let path = app.job_folder(id).join(format!("preview.{ending}"));
        if path.is_file() {
            return Ok(MediaFile {
                path,
                format,
                name: format!("preview-{id}.{ending}"),
                version: None,
            });
        }
    }
    Err(Error::not_found("preview of this job"))
}

/// The contact sheet of a batch, as it was last drawn.
///
/// # Errors
/// `not_found` when none was drawn yet.
pub fn find_sheet(app: &App, id: BatchId) -> Result<MediaFile> {
    let path = app.config().sheets_dir().join(format!("{id}.jpg"));
    if !path.is_file() {
        return Err(Error::not_found(
            "contact sheet of this batch; draw it first",
        ));
    }
    Ok(MediaFile {
        path,
        format: ImageFormat::Jpeg.into(),
        name: format!("contact-sheet-{id}.jpg"),
        version: None,
    })
}

/// A picture that was handed in.
///
/// # Errors
/// `not_found` when it is not here.
pub async fn find_input(app: &Arc<App>, digest: &Digest) -> Result<MediaFile> {
    let path = app.inputs().path(digest);
    let look = move || -> Result<MediaFile> {
        let bytes =
            read_bounded(&path).map_err(|_| Error::not_found("picture that was handed in"))?;
        let format = kinora_media::detect_format(&bytes)
            .ok_or_else(|| Error::not_found("picture of a known format"))?;
        Ok(MediaFile {
            name: path
                .file_name()
                .map(|name| format!("{}.{}", name.to_string_lossy(), format.extension()))
                .unwrap_or_default(),
            version: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            path,
            format: format.into(),
        })
    };
    spawn_blocking(look).await.map_err(Error::internal)?
}

/// The file of a picture, inside the folder where it belongs even where links are followed.
async fn find_file(app: &Arc<App>, asset: &Asset) -> Result<PathBuf> {
    let path = app.asset_file(asset);
    let root = if asset.trashed_at.is_some() {
        path.parent().unwrap_or(&path).to_owned()
    } else {
        app.outputs_dir().to_owned()
    };
    let resolve = move || {
        let real = fs::canonicalize(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let hint = "It was moved or deleted outside of Kinora.";
                let message = format!("{} is gone", path.display());
                return Error::from(Problem::new(Code::NotFound, message, hint));
            }
            Error::io("find", &path, &error)
        })?;
        let root = fs::canonicalize(&root).map_err(|e| Error::io("find", &root, &e))?;
        if !real.starts_with(&root) {
            let message = format!("{} lies outside {}", path.display(), root.display());
            let hint = "Put the file itself where the link is.";
            return Err(Problem::new(Code::Forbidden, message, hint).into());
        }
        Ok(real)
    };
    spawn_blocking(resolve).await.map_err(Error::internal)?
}
