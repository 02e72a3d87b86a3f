//! Files between the desktop and the window: drops, saving, showing in the file manager.
//!
//! The page can read only what the user handed over by dropping it: such paths are granted here,
//! and nothing else is ever opened on the page's word. It can write only where the user says in a
//! dialogue.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use kinora_app::{
    error::Error,
    inputs::{self, Input},
    metadata::{self, MetadataReading},
};
use kinora_core::{Asset, AssetId, Code, Problem, Problems};
use serde_json::json;
use tauri::{
    AppHandle, DragDropEvent, Manager, Runtime, State, Window, WindowEvent,
    ipc::{self, Response},
};
use tauri_plugin_dialog::DialogExt;

use crate::studio::Studio;

/// Largest file that is read for the page: a prompt list or a picture.
const MAX_BYTES: u64 = 64 << 20;

/// Paths that the user dropped since the program began.
#[derive(Default)]
pub struct Granted(Mutex<HashSet<PathBuf>>);

impl Granted {
    fn grant(&self, path: &Path) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_path_buf());
    }

    fn has(&self, path: &Path) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(path)
    }
}

/// Grants what is dropped on the window; the page learns of the drop by Tauri's own event.
pub fn on_window_event<R: Runtime>(window: &Window<R>, event: &WindowEvent) {
    if let WindowEvent::DragDrop(
        DragDropEvent::Drop { paths, .. } | DragDropEvent::Enter { paths, .. },
    ) = event
    {
        let granted = window.state::<Granted>();
        for path in paths {
            granted.grant(path);
        }
    }
}

/// Reads a file that was dropped.
#[tauri::command]
pub async fn read_dropped_file(
    path: PathBuf,
    granted: State<'_, Granted>,
) -> Result<Response, Problems> {
    if !granted.has(&path) {
        return Err(Problem::new(
            Code::Forbidden,
            "this file was not dropped on the window",
            "Drop the file on the window again.",
        )
        .into());
    }
    let mut bytes = Vec::new();
    fs::File::open(&path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unusable(&path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::new(
            Code::UnsupportedFile,
            format!("{} is larger than {} MiB", path.display(), MAX_BYTES >> 20),
            "Kinora reads pictures and prompt lists; split a longer list.",
        )
        .into());
    }
    Ok(Response::new(bytes))
}

/// Reads the settings out of a picture, sent as raw bytes.
#[tauri::command]
pub async fn read_metadata(
    request: ipc::Request<'_>,
    studio: State<'_, Studio>,
) -> Result<MetadataReading, Problems> {
    metadata::read(&studio.app, raw_body(&request).ok_or_else(no_bytes)?)
        .map_err(Error::into_problems)
}

/// Keeps a picture that requests can start from, sent as raw bytes.
#[tauri::command]
pub async fn keep_input(
    request: ipc::Request<'_>,
    studio: State<'_, Studio>,
) -> Result<Input, Problems> {
    inputs::keep(&studio.app, raw_body(&request).ok_or_else(no_bytes)?)
        .map_err(Error::into_problems)
}

/// Writes raw bytes to a place that the user chooses, under the name in the header `x-file-name`;
/// false when they did not choose.
#[tauri::command]
pub async fn save_file<R: Runtime>(
    request: ipc::Request<'_>,
    app: AppHandle<R>,
) -> Result<bool, Problems> {
    let bytes = raw_body(&request).ok_or_else(no_bytes)?.to_vec();
    let name = request
        .headers()
        .get("x-file-name")
        .and_then(|name| name.to_str().ok())
        .unwrap_or("kinora");
    let name = percent_decode(name);
    let Some(target) = choose_target(app, name).await? else {
        return Ok(false);
    };
    fs::write(&target, bytes).map_err(|error| unusable(&target, &error))?;
    Ok(true)
}

fn raw_body<'r>(request: &'r ipc::Request<'_>) -> Option<&'r [u8]> {
    match request.body() {
        ipc::InvokeBody::Raw(bytes) => Some(bytes),
        ipc::InvokeBody::Json(_) => None,
    }
}

fn no_bytes() -> Problem {
    Problem::new(Code::InvalidInput, "the file came without bytes", "")
}

async fn choose_target<R: Runtime>(
    app: AppHandle<R>,
    name: String,
) -> Result<Option<PathBuf>, Problems> {
    let dialog = app.dialog().file().set_file_name(name);
    let chosen = tauri::async_runtime::spawn_blocking(move || dialog.blocking_save_file())
        .await
        .map_err(|error| {
            Problem::new(
                Code::Internal,
                format!("failed to ask for a place: {error}"),
                "",
            )
        })?;
    Ok(chosen.and_then(|file| file.into_path().ok()))
}

/// Copies a stored picture to a place that the user chooses; false when they did not.
#[tauri::command]
pub async fn save_asset<R: Runtime>(
    id: AssetId,
    name: String,
    app: AppHandle<R>,
    studio: State<'_, Studio>,
) -> Result<bool, Problems> {
    let source = asset_path(&studio, id).await?;
    let Some(target) = choose_target(app, name).await? else {
        return Ok(false);
    };
    fs::copy(&source, &target).map_err(|error| unusable(&target, &error))?;
    Ok(true)
}

/// Shows a stored picture in the file manager, marked where the file manager can.
#[tauri::command]
pub async fn reveal_asset(id: AssetId, studio: State<'_, Studio>) -> Result<(), Problems> {
    let path = asset_path(&studio, id).await?;
    let marked = Command::new("dbus-send")
        .args([
            "--session",
            "--dest=org.freedesktop.FileManager1",
            "--type=method_call",
            "--print-reply",
            "/org/freedesktop/FileManager1",
            "org.freedesktop.FileManager1.ShowItems",
        ])
        .arg(format!("array:string:{}", file_url(&path)))
        .arg("string:")
        .output()
        .is_ok_and(|output| output.status.success());
    if !marked {
        let folder = path.parent().unwrap_or(&path);
        Command::new("xdg-open")
            .arg(folder)
            .spawn()
            .map_err(|error| unusable(folder, &error))?;
    }
    Ok(())
}

/// Opens a web page in the user's browser: a licence to accept, the documentation.
#[tauri::command]
pub async fn open_external(url: String) -> Result<(), Problems> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web || url.chars().any(char::is_control) {
        return Err(Problem::new(
            Code::Forbidden,
            "only web pages are opened in the browser",
            "",
        )
        .into());
    }
    Command::new("xdg-open")
        .arg(&url)
        .spawn()
        .map_err(|error| unusable(Path::new("xdg-open"), &error))?;
    Ok(())
}

async fn asset_path(studio: &Studio, asset: AssetId) -> Result<PathBuf, Problems> {
    let found = studio
        .app
        .call("assets_get", json!({ "id": asset }))
        .await?;
    let found: Asset = serde_json::from_value(found).map_err(|error| {
        Problem::new(
            Code::Internal,
            format!("failed to read the picture's entry: {error}"),
            "",
        )
    })?;
    Ok(studio.app.asset_file(&found))
}

/// A `file:` URL with everything escaped that is not plain.
fn file_url(path: &Path) -> String {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(*byte))
            }
            // Writing to a String does not fail.
            other => drop(write!(url, "%{other:02X}")),
        }
    }
    url
}

/// Undoes `encodeURIComponent`; what is not valid stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 16).ok()
            });
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unusable(path: &Path, error: &std::io::Error) -> Problems {
    Problem::new(
        Code::Io,
        format!("failed to use {}: {error}", path.display()),
        "Check that the file is there and that you may use it.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_urls_escape_what_is_not_plain() {
        assert_eq!(
            file_url(Path::new("/a b/ä,c.png")),
            "file:///a%20b/%C3%A4%2Cc.png"
        );
    }

    #[test]
    fn file_names_arrive_as_they_were() {
        assert_eq!(percent_decode("a%20b%2F%C3%A4%zz%"), "a b/ä%zz%");
    }

    #[test]
    fn only_granted_paths_are_readable() {
        let granted = Granted::default();
        granted.grant(Path::new("/a"));
        assert!(granted.has(Path::new("/a")));
        assert!(!granted.has(Path::new("/a/../b")));
    }
}
