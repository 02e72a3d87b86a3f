//! Lets the shell compile before the UI was built: the window then says how to build it.

use std::{fs, path::Path};

fn main() {
    let dist = Path::new("../ui/dist");
    if !dist.join("index.html").exists() {
        let page = "<!doctype html><title>Kinora</title><p>The UI is not built yet: run <code>make build</code>.";
        fs::create_dir_all(dist).expect("make ui/dist");
        fs::write(dist.join("index.html"), page).expect("write ui/dist/index.html");
    }
    println!("cargo:rerun-if-changed=../ui/dist");
    tauri_build::try_build(tauri_build::Attributes::new().app_manifest(
        tauri_build::AppManifest::new().commands(&[
            "call",
            "host_info",
            "read_dropped_file",
            "keep_input",
            "read_metadata",
            "save_file",
            "save_asset",
            "reveal_asset",
            "open_external",
        ]),
    ))
    .expect("prepare the window's resources");
}
