//! One file per command of the program.

pub mod assets;
pub mod bulk;
pub mod cleanup;
pub mod config;
pub mod doctor;
pub mod generate;
pub mod jobs;
pub mod loras;
pub mod models;
pub mod prompts;
pub mod recipe;
pub mod serve;
pub mod sessions;
pub mod video;
pub mod wildcards;

use std::io::Read;

use kinora_app::{bulk::decode_text, bytes::read_bounded, jobs::Note};
use kinora_core::{
    Asset, Code, ImageRequest, Job, JobState, LoraRequest, PictureRef, Problem, Request,
    request::BadLora,
};
use serde_json::{Map, Value, json};

use crate::{Context, args::Look, connection::Refusal, exit, text};

/// A request from what `generate` and `bulk` were told; the prompt comes later. Picture files are
/// handed in.
///
/// # Errors
/// When an id is not one, a file is no picture, or the connection is lost.
pub async fn request(context: &Context, look: &Look) -> Result<Request, Refusal> {
    let mut members = Map::new();
    let (image, strength, more_images) = given(context, look).await?;
    let mask = picture(context, look.mask.as_deref()).await?;
    let end_image = picture(context, look.end_image.as_deref()).await?;
    let mut loras = Vec::new();
    for lora in &look.lora {
        loras.push(parse_lora(lora)?);
    }
    let mut clip = Map::new();
    for (name, value) in [
        ("frames", look.frames.map(|v| json!(v))),
        ("seconds", look.seconds.map(|v| json!(v))),
        ("fps", look.fps.map(|v| json!(v))),
        ("end_image", end_image.map(|v| json!(v))),
        ("cfg_2", look.cfg_2.map(|v| json!(v))),
        ("low_share", look.low_share.map(|v| json!(v))),
        ("boundary", look.boundary.map(|v| json!(v))),
        ("shift", look.shift.map(|v| json!(v))),
        ("sound", look.no_sound.then_some(json!(false))),
        ("vae_tiling", look.vae_tiling.then_some(json!(true))),
        ("context_frames", look.context_frames.map(|v| json!(v))),
        ("context_overlap", look.context_overlap.map(|v| json!(v))),
    ] {
        if let Some(value) = value {
            clip.insert(name.to_owned(), value);
        }
    }
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    let mut components = Map::new();
    for choice in &look.component {
        let (part, file) = parse_component(choice)?;
        components.insert(part, json!(file));
    }
    set(
        "components",
        (!components.is_empty()).then_some(Value::Object(components)),
    );
    set("model", look.model.as_ref().map(|v| json!(v)));
    set("negative_prompt", look.negative.as_ref().map(|v| json!(v)));
    set("expansion", expansion(look.combinations, look.plain));
    set("width", look.size.map(|(width, _)| json!(width)));
    set("height", look.size.map(|(_, height)| json!(height)));
    set("steps", look.steps.map(|v| json!(v)));
    set("guidance", look.guidance.map(|v| json!(v)));
    set("true_cfg", look.true_cfg.map(|v| json!(v)));
    set("step_cache", look.step_cache.map(|v| json!(v)));
    set("seed", look.seed.map(|v| json!(kinora_core::Seed(v))));
    set("copies", look.copies.map(|v| json!(v)));
    set("image", image.map(|v| json!(v)));
    set("mask", mask.map(|v| json!(v)));
    set("strength", strength.map(|v| json!(v)));
    set(
        "more_images",
        (!more_images.is_empty()).then(|| json!(more_images)),
    );
    set("loras", (!loras.is_empty()).then(|| json!(loras)));
    set("video", (!clip.is_empty()).then_some(Value::Object(clip)));
    set("sampler", look.sampler.as_ref().map(|v| json!(v)));
    set("schedule", look.schedule.as_ref().map(|v| json!(v)));
    set("rng", look.rng.as_ref().map(|v| json!(v)));
    set("format", look.format.as_ref().map(|v| json!(v)));
    set("output_name", look.output.as_ref().map(|v| json!(v)));
    set("session", look.session.as_ref().map(|v| json!(v)));
    set("priority", look.priority.as_ref().map(|v| json!(v)));
    serde_json::from_value(Value::Object(members)).map_err(|error| {
        Problem::new(
            Code::InvalidInput,
            format!("failed to read the options: {error}"),
            "See `kinora help`.",
        )
        .into()
    })
}

/// The first picture with its strength, and the others with theirs.
async fn given(
    context: &Context,
    look: &Look,
) -> Result<(Option<PictureRef>, Option<f32>, Vec<ImageRequest>), Refusal> {
    let strengths = look.strength.as_slice();
    if strengths.len() > 1 && strengths.len() != look.image.len() {
        return Err(Problem::in_field(
            "strength",
            format!(
                "there are {} strengths and {} pictures",
                strengths.len(),
                look.image.len()
            ),
            "Give one for all pictures, or one for each in their order.",
        )
        .into());
    }
    let image = picture(context, look.image.first().map(String::as_str)).await?;
    let mut more_images = Vec::new();
    for (place, named) in look.image.iter().enumerate().skip(1) {
        if let Some(image) = picture(context, Some(named)).await? {
            more_images.push(ImageRequest {
                image,
                strength: strengths.get(place).copied(),
            });
        }
    }
    Ok((image, strengths.first().copied(), more_images))
}

/// A picture that was named: `asset:` with an id, `input:` with a hash, or a file, which is handed
/// in.
///
/// # Errors
/// When the file is no picture, or the connection is lost.
pub async fn picture(
    context: &Context,
    named: Option<&str>,
) -> Result<Option<PictureRef>, Refusal> {
    let Some(named) = named else {
        return Ok(None);
    };
    if let Ok(reference) = named.parse() {
        return Ok(Some(reference));
    }
    let path = std::path::Path::new(named);
    let bytes = read_bounded(path).map_err(|error| {
        Problem::new(
            match error.kind() {
                std::io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::Io,
            },
            format!("failed to read {}: {error}", path.display()),
            "Name a PNG, JPEG or WebP file, or a picture of the gallery as asset: with its id.",
        )
    })?;
    Ok(Some(context.connection.keep_input(bytes).await?.reference))
}

/// `style`, `style:0.8`, `style:0.8:high`.
fn parse_lora(text: &str) -> Result<LoraRequest, Refusal> {
    text.parse().map_err(|error: BadLora| {
        Problem::in_field(
            "lora",
            error.to_string(),
            "Write the name, a colon and a number: style:0.8. A model with two networks takes \
             :high or :low behind it.",
        )
        .into()
    })
}

/// `vae=ae.safetensors`.
fn parse_component(text: &str) -> Result<(String, &str), Refusal> {
    match text.split_once('=') {
        Some((part, file)) if !part.trim().is_empty() && !file.trim().is_empty() => {
            Ok((part.trim().to_owned(), file.trim()))
        }
        _ => Err(Problem::in_field(
            "component",
            format!("{text:?} is not a part with a file"),
            "Write the part, = and the file's name: vae=ae.safetensors.",
        )
        .into()),
    }
}

/// Tells what `resolve` decided differently from what was asked.
pub fn tell_notes(context: &Context, notes: &[Note]) {
    for note in notes {
        let place = note
            .line
            .map(|line| format!("line {line}: "))
            .unwrap_or_default();
        context.tell(format!("note: {place}{}", note.message));
    }
}

/// The stored pictures of jobs, in their order.
///
/// # Errors
/// When the connection is lost.
pub async fn pictures(context: &Context, jobs: &[Job]) -> Result<Vec<Asset>, Refusal> {
    let mut assets = Vec::new();
    for id in jobs.iter().flat_map(|job| &job.assets) {
        assets.push(
            context
                .connection
                .call("assets_get", json!({ "id": id }))
                .await?,
        );
    }
    Ok(assets)
}

/// The exit code of followed jobs: why the first one failed when none is done, partly when some are.
pub fn exit_code(jobs: &[Job]) -> u8 {
    let done = jobs
        .iter()
        .filter(|job| job.state == JobState::Done)
        .count();
    match done {
        done if done == jobs.len() => exit::DONE,
        0 => {
            let failure = jobs.iter().find_map(|job| job.failure.as_ref());
            failure.map_or(exit::FAILED, |failure| exit::code_of(failure.code))
        }
        _ => exit::PARTLY,
    }
}

/// The text of a file, or of standard input where the name is `-`.
///
/// # Errors
/// When it cannot be read or is neither UTF-8 nor the UTF-16 of spreadsheets.
pub fn read_text(file: &std::path::Path) -> Result<String, Refusal> {
    let read = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map(|_| bytes)
    } else {
        read_bounded(file)
    };
    let bytes = read.map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::FileTooLarge => Code::InvalidInput,
            _ => Code::Io,
        };
        Problem::new(
            code,
            format!("failed to read {}: {error}", file.display()),
            "Name a text file in UTF-8, or `-` for standard input.",
        )
    })?;
    Ok(decode_text(&bytes)?)
}

/// Says what a run would take.
pub fn describe_estimate(estimate: &kinora_app::estimate::Estimate) -> String {
    let mut parts = Vec::new();
    match estimate.seconds {
        Some(seconds) => parts.push(format!("about {}", text::seconds(seconds))),
        None => parts.push("time unknown until the first picture is done".to_owned()),
    }
    if let Some(wait) = estimate.wait_seconds.filter(|wait| *wait >= 1.0) {
        parts.push(format!("after {} of other work", text::seconds(wait)));
    }
    parts.push(format!(
        "memory {} of {}",
        text::bytes(estimate.memory_needed),
        text::bytes(estimate.memory_available)
    ));
    parts.push(format!("disk {}", text::bytes(estimate.disk_needed)));
    parts.join(", ")
}

/// Writes a file as a whole or not at all.
///
/// # Errors
/// When the disk refuses.
pub fn write_file(path: &std::path::Path, bytes: &[u8]) -> Result<(), Refusal> {
    use std::io::Write;
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(std::path::Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = folder.join(format!(".{name}.{}.part", std::process::id()));
        let mut file = std::fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::StorageFull {
            Code::DiskFull
        } else {
            Code::Io
        };
        Problem::new(
            code,
            format!("failed to write {}: {error}", path.display()),
            "Check that the disk has room and that you may write there.",
        )
        .into()
    })
}

/// What becomes of choices; None: drawn at random.
fn expansion(combinations: bool, plain: bool) -> Option<Value> {
    match (combinations, plain) {
        (true, _) => Some(json!("combinations")),
        (false, true) => Some(json!("off")),
        (false, false) => None,
    }
}
