//! Sees to it that there is a UI to embed: where none was built, a page that says how.

use std::{fs, path::Path};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Kinora</title>
  </head>
  <body>
    <h1>The UI is not built</h1>
    <p>The server runs. Its UI was not there when the program was compiled: run <code>make build</code>.</p>
    <p>The API is at <a href="/docs">/docs</a>.</p>
  </body>
</html>
"#;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/dist");
    let index = dist.join("index.html");
    if !index.exists() {
        fs::create_dir_all(&dist).expect("ui/dist can be created");
        fs::write(&index, PAGE).expect("ui/dist can be written to");
    }
    println!("cargo::rerun-if-changed=../../ui/dist");
}
