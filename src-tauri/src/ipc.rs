//! What the page calls: the command table, and what it has to know about its host.

use kinora_core::Problems;
use serde::Serialize;
use serde_json::Value;
use tauri::State;

use crate::studio::Studio;

/// Runs one command of the application's table.
#[tauri::command]
pub async fn call(
    name: String,
    input: Value,
    studio: State<'_, Studio>,
) -> Result<Value, Problems> {
    studio.app.call(&name, input).await
}

/// What the page has to know about its host.
#[derive(Serialize)]
pub struct HostInfo {
    /// Where pictures are read from: the window cannot play media from its own scheme.
    media_base: String,
    /// Token of this launch for that address.
    token: String,
    /// Version of Kinora.
    version: &'static str,
}

/// Tells the page about its host.
#[tauri::command]
pub fn host_info(studio: State<'_, Studio>) -> HostInfo {
    HostInfo {
        media_base: studio.media_base(),
        token: studio.token().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
    }
}
