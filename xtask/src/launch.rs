//! Starting Kinora: the demonstration, the window, the server, and the server with hot reload.

use std::{env, process::Child, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    shell::{command, npm, program, programs, read, run, say},
};

/// The picture of the example list that becomes a clip: words of its prompt.
const DEMO_PICTURE: &str = "sailboat on the sea at dawn";

/// Turns the example list into pictures with the built-in model, and one of them into a clip.
pub fn demo() -> Result<()> {
    build::ui()?;
    say("Building (the first time takes some minutes)");
    build::packages(&["kinora-cli", "kinora-engine"])?;
    say("Painting docs/examples/prompts.csv");
    run(command(program("kinora")?).args([
        "bulk",
        "docs/examples/prompts.csv",
        "--contact-sheet",
        "--table",
    ]))?;
    demo_clip()?;
    say("Open the studio with `make studio` (a window) or `make serve` (a browser).");
    Ok(())
}

/// Sets one of the pictures in motion; the program prints where the clip lies.
fn demo_clip() -> Result<()> {
    let found = read(command(program("kinora")?).args([
        "assets",
        "list",
        "--kind",
        "image",
        "--search",
        DEMO_PICTURE,
        "--limit",
        "1",
        "--json",
    ]))?;
    let found: serde_json::Value =
        serde_json::from_str(&found).context("read the list of pictures")?;
    let Some(picture) = found["assets"][0]["id"].as_str() else {
        bail!("none of the pictures shows a {DEMO_PICTURE}");
    };
    say("Making a clip of one of the pictures: the sun sets");
    let start = Instant::now();
    run(command(program("kinora")?).args([
        "generate",
        "the sun sets",
        "--model",
        "starter-video",
        "--image",
        &format!("asset:{picture}"),
    ]))?;
    let seconds = start.elapsed().as_secs_f64();
    say(&format!(
        "That clip, two seconds long, took {seconds:.0} s, starting the engine and reading the model included."
    ));
    Ok(())
}

/// Opens the window; serves where there is no display.
pub fn studio() -> Result<()> {
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()));
    if !has_display {
        say("There is no display here, so Kinora serves to a browser instead.");
        return serve();
    }
    build::ui()?;
    build::packages(&["kinora-desktop", "kinora-engine"])?;
    run(&mut command(program("kinora-desktop")?))
}

/// Serves to a browser.
pub fn serve() -> Result<()> {
    build::ui()?;
    build::packages(&["kinora-cli", "kinora-engine"])?;
    run(command(program("kinora")?).arg("serve"))
}

/// Makes the pictures of the README: every page, in light and dark.
pub fn screenshots() -> Result<()> {
    build::ui()?;
    build::packages(&["kinora-cli", "kinora-engine"])?;
    run(npm(&["run", "--silent", "screenshots"]).env("KINORA_PROGRAMS", programs()?))
}

/// Serves, with the UI reloading as it is edited.
pub fn dev() -> Result<()> {
    build::packages(&["kinora-cli", "kinora-engine"])?;
    let mut server = command(program("kinora")?)
        .arg("serve")
        .spawn()
        .context("start `kinora serve`")?;
    let mut vite = npm(&["run", "dev"])
        .spawn()
        .context("start `npm run dev`")?;
    let ended = wait_for_either(&mut server, &mut vite);
    // Whichever goes first takes the other along; both failing to be killed means both are gone.
    let _ = server.kill();
    let _ = vite.kill();
    ended
}

fn wait_for_either(server: &mut Child, vite: &mut Child) -> Result<()> {
    loop {
        for (name, child) in [("kinora serve", &mut *server), ("npm run dev", &mut *vite)] {
            if let Some(status) = child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("`{name}` ended with {status}");
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
