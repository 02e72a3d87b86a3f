//! Settings into files: the infotext that other programs read, and Kinora's recipe, put into the
//! encoded picture without touching its pixels.
//!
//! | | infotext | recipe |
//! |---|---|---|
//! | PNG | text chunk `parameters` | text chunk `kinora` |
//! | JPEG, WebP | EXIF `UserComment`, UTF-16 big-endian | XMP, element `kinora:recipe` |

use kinora_core::{ImageFormat, Recipe, Rng};

use crate::{
    container::{exif, jpeg, png, webp},
    error::Result,
};

/// The PNG keyword of the recipe, and its key among the texts of any file.
pub(crate) const RECIPE_KEYWORD: &str = "kinora";
const INFOTEXT_KEYWORD: &str = "parameters";

/// The recipe as it stands in the file.
pub(crate) fn recipe_json(recipe: &Recipe) -> String {
    serde_json::to_string(&recipe.for_file()).expect("a recipe has only text keys and plain values")
}

/// The encoded picture with its settings inside. The same picture and recipe give the same bytes.
pub(crate) fn embed(encoded: &[u8], format: ImageFormat, recipe: &Recipe) -> Result<Vec<u8>> {
    let infotext = write_infotext(recipe);
    let json = recipe_json(recipe);
    let exif = || exif::write(&format!("Kinora {}", recipe.kinora), &infotext);
    match format {
        ImageFormat::Png => png::insert_texts(
            encoded,
            &[(INFOTEXT_KEYWORD, &infotext), (RECIPE_KEYWORD, &json)],
        ),
        ImageFormat::Jpeg => Ok(jpeg::insert(encoded, Some(&exif()), &json)),
        ImageFormat::Webp => webp::insert(encoded, Some(&exif()), &json),
    }
}

/// The settings as the web UI and its relatives write them, with the hashes that upload sites look
/// models up by.
pub fn write_infotext(recipe: &Recipe) -> String {
    let plan = &recipe.plan;
    let mut text = plan.prompt.clone();
    if !plan.negative_prompt.is_empty() {
        text.push_str("\nNegative prompt: ");
        text.push_str(&plan.negative_prompt);
    }
    let hash_of = |component: &str| {
        let file = plan
            .model
            .weights
            .iter()
            .find(|file| file.component == component)?;
        // The first ten digits of a file's SHA-256 are what the field calls AutoV2.
        file.sha256.as_deref()?.get(..10)
    };
    let model_hash = hash_of("transformer");
    let rng = match plan.rng {
        Rng::Cpu => "CPU",
        Rng::Cuda => "GPU",
    };
    let mut pairs: Vec<(&str, String)> = vec![
        ("Steps", plan.steps.to_string()),
        ("Sampler", plan.sampler.a1111_name().to_owned()),
        ("Schedule type", plan.schedule.a1111_name().to_owned()),
        ("CFG scale", plan.true_cfg.unwrap_or(1.0).to_string()),
    ];
    if let Some(guidance) = plan.guidance {
        pairs.push(("Distilled CFG Scale", guidance.to_string()));
    }
    pairs.push(("Seed", plan.seed.to_string()));
    pairs.push(("Size", format!("{}x{}", plan.size.width, plan.size.height)));
    if let Some(hash) = model_hash {
        pairs.push(("Model hash", hash.to_owned()));
    }
    pairs.push(("Model", plan.model.id.to_string()));
    if let Some(hash) = hash_of("vae") {
        pairs.push(("VAE hash", hash.to_owned()));
    }
    pairs.push(("RNG", rng.to_owned()));
    pairs.push(("Version", format!("Kinora {}", recipe.kinora)));
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}: {}", quote(value)))
        .collect();
    text.push('\n');
    text.push_str(&pairs.join(", "));
    let hashes: Vec<String> = [("model", model_hash), ("vae", hash_of("vae"))]
        .into_iter()
        .filter_map(|(key, hash)| Some(format!("\"{key}\":\"{}\"", hash?)))
        .collect();
    if !hashes.is_empty() {
        text.push_str(&format!(", Hashes: {{{}}}", hashes.join(",")));
    }
    text
}

/// A value as the web UI writes it: as a JSON string when it has a comma, a colon or a line break.
fn quote(value: &str) -> String {
    if value.contains([',', ':', '\n']) {
        serde_json::Value::String(value.to_owned()).to_string()
    } else {
        value.to_owned()
    }
}
