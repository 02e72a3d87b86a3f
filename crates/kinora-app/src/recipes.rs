//! Recipes: making a picture again, and saying what would be different.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kinora_core::{
    Asset, AssetId, Code, ImageRequest, LoraRequest, PictureRef, Plan, PlannedPicture, Problem,
    Recipe, Request, VideoOptions, WeightFile, plan::NUMERICS,
};
use kinora_queue::{BatchKind, NewJob};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    bytes::read_bounded,
    decide::Decisions,
    error::{Error, Result},
    jobs::{Note, Submission, Submitted, enqueue},
    resolve::{Place, resolve},
};

mod results;

/// What to verify: a stored picture, or a recipe from anywhere; exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyRecipe {
    /// The stored picture.
    pub asset: Option<AssetId>,
    /// What a picture carries inside.
    pub recipe: Option<Box<Recipe>>,
    /// Another stored picture, whose plan is compared as well: one that was made from the recipe,
    /// say. Its pixels too, or all the frames of a clip, where both are stored.
    pub against: Option<AssetId>,
}

/// How one part of a recipe compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartComparison {
    /// Which part: `build`, `numerics`, `model`, `weights/transformer`, `plan/steps`, `file`,
    /// `pixels`, `frames`.
    pub part: String,
    /// Whether it is the same.
    pub is_same: bool,
    /// What the recipe says.
    pub expected: String,
    /// What there is.
    pub actual: String,
}

/// The parts of a recipe, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Whether every part is the same: running the recipe here gives the same bytes.
    pub is_same: bool,
    /// The parts.
    pub parts: Vec<PartComparison>,
}

/// A recipe to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// What the picture carries inside.
    pub recipe: Recipe,
    /// Naming template for the new file; None: that of the settings.
    #[serde(default)]
    pub output_name: Option<String>,
    /// Run although the files on this machine are not those of the recipe.
    #[serde(default)]
    pub allow_differences: bool,
}

/// What is verified, once it was found.
enum Subject {
    Stored(Box<Asset>),
    Loose(Box<Recipe>),
}

impl Subject {
    fn recipe(&self) -> &Recipe {
        match self {
            Subject::Stored(asset) => &asset.recipe,
            Subject::Loose(recipe) => recipe,
        }
    }
}

/// Compares a recipe with what there is here and now: build, model, weight files, the file itself
/// where it is stored here, and another picture if asked.
pub async fn verify(app: &Arc<App>, input: VerifyRecipe) -> Result<Verification> {
    let subject = match (input.asset, input.recipe) {
        (Some(id), None) => Subject::Stored(Box::new(app.queue().asset(id).await?)),
        (None, Some(recipe)) => Subject::Loose(recipe),
        (found, _) => {
            let message = match found {
                None => "neither a stored picture nor a recipe is named",
                Some(_) => "both a stored picture and a recipe are named",
            };
            let hint = "Send exactly one of asset and recipe.";
            return Err(Problem::in_field("asset", message, hint).into());
        }
    };
    let against = match input.against {
        Some(id) => Some(app.queue().asset(id).await?),
        None => None,
    };
    let app = Arc::clone(app);
    let compare = move || {
        let mut parts = Parts::default();
        let recipe = subject.recipe();
        compare_machine(&app, recipe, &mut parts)?;
        if let Subject::Stored(asset) = &subject {
            compare_file(&app, asset, &mut parts)?;
        }
        if let Some(other) = against {
            compare_plans(&recipe.plan, &other.recipe.plan, &mut parts)?;
            if let Subject::Stored(asset) = &subject {
                let files = [asset.as_ref(), &other].map(|asset| app.asset_file(asset));
                parts.0.push(results::compare(&files[0], &files[1])?);
            }
        }
        Ok(parts.finish())
    };
    tokio::task::spawn_blocking(compare)
        .await
        .map_err(Error::internal)?
}

/// Compares two files of results: what they show, and their bytes. Blocks.
///
/// # Errors
/// When one of them is neither a picture nor a clip.
pub fn compare_results(expected: &[u8], actual: &[u8]) -> Result<Vec<PartComparison>> {
    let mut parts = Parts::default();
    parts.0.push(results::compare_bytes(expected, actual)?);
    parts.compare("bytes", hex_digest(expected), hex_digest(actual));
    Ok(parts.0)
}

/// Compares two recipes, wherever they were made: what made them, the model down to its files, and
/// every member of their plans.
///
/// # Errors
/// A plan that cannot be written out.
pub fn compare_recipes(expected: &Recipe, actual: &Recipe) -> Result<Vec<PartComparison>> {
    let mut parts = Parts::default();
    let (plan, other) = (&expected.plan, &actual.plan);
    parts.compare("build", &expected.kinora, &actual.kinora);
    parts.compare("device", &expected.device, &actual.device);
    parts.compare("dtype", &expected.dtype, &actual.dtype);
    parts.compare("numerics", &plan.numerics, &other.numerics);
    parts.compare("model", plan.model.id.as_str(), other.model.id.as_str());
    let named = |plan: &Plan| -> BTreeMap<String, String> {
        let weights = plan.model.weights.iter();
        let name = |file: &WeightFile| (format!("weights/{}", file.component), hash_of(file));
        weights.map(name).collect()
    };
    let (files, others) = (named(plan), named(other));
    for part in files.keys().chain(others.keys()).collect::<BTreeSet<_>>() {
        let of = |files: &BTreeMap<String, String>| {
            let file = files.get(part).cloned();
            file.unwrap_or_else(|| "missing".to_owned())
        };
        parts.compare(part, of(&files), of(&others));
    }
    compare_plans(plan, other, &mut parts)?;
    Ok(parts.0)
}

/// The recipe inside a picture file.
///
/// # Errors
/// `unsupported_file` when it carries none.
pub fn read_recipe(bytes: &[u8]) -> Result<Recipe> {
    let metadata = kinora_media::read_metadata(bytes)?;
    metadata.recipe.map(|recipe| *recipe).ok_or_else(|| {
        Problem::new(
            Code::UnsupportedFile,
            "the file carries no recipe of Kinora's",
            "Use a file made by Kinora; settings of other programs can be read, not verified.",
        )
        .into()
    })
}

/// Makes the picture of a recipe again. What is different here is refused, or said in notes when
/// differences are allowed.
pub async fn run(app: &Arc<App>, input: RunRecipe) -> Result<Submitted> {
    let recipe = input.recipe;
    let decisions = Decisions::gather(app);
    let request = to_request(&recipe.plan, input.output_name);
    let place = Place {
        batch: decisions.batch_tag(),
        ..Place::default()
    };
    let resolved = decisions
        .with(|context| resolve(&request, place, context))
        .map_err(Error::from_list)?;
    let mut plans = resolved.plans;
    let Some(mut plan) = plans.pop() else {
        return Err(Error::internal("a recipe resolved to no plan"));
    };
    plan.text_tokens = recipe.plan.text_tokens.min(plan.text_tokens);
    plan.draft = recipe.plan.draft;

    let verifier = Arc::clone(app);
    let made = plan.clone();
    let compare = move || {
        let mut parts = Parts::default();
        compare_machine(&verifier, &recipe, &mut parts)?;
        compare_plans(&recipe.plan, &made, &mut parts)?;
        Ok::<_, Error>(parts.finish())
    };
    let verification = tokio::task::spawn_blocking(compare)
        .await
        .map_err(Error::internal)??;
    let notes: Vec<Note> = verification
        .parts
        .into_iter()
        .filter(|part| !part.is_same)
        .map(|part| Note {
            message: format!("{} was {} and is {}", part.part, part.expected, part.actual),
            field: Some(part.part),
            line: None,
        })
        .collect();
    if !notes.is_empty() && !input.allow_differences {
        let problems = notes.into_iter().map(|note| Problem {
            field: note.field,
            ..Problem::new(
                Code::Conflict,
                note.message,
                "The picture may come out differently; allow differences to run it all the same.",
            )
        });
        return Err(Error::from_list(problems.collect()));
    }
    let submission = Submission {
        kind: BatchKind::Copies,
        title: plan.prompt.clone(),
        session: None,
        jobs: vec![NewJob::new(plan)],
        notes,
    };
    enqueue(app, submission).await
}

/// The request that resolves to this plan: its words stand as they are.
pub fn to_request(plan: &Plan, output_name: Option<String>) -> Request {
    Request {
        prompt: plan.prompt.clone(),
        negative_prompt: plan.negative_prompt.clone(),
        expansion: Some(kinora_core::Expansion::Off),
        kind: None,
        model: Some(plan.model.id.clone()),
        components: plan.model.components.clone(),
        width: Some(plan.size.width),
        height: Some(plan.size.height),
        steps: Some(plan.steps),
        guidance: plan.guidance,
        true_cfg: plan.true_cfg,
        // A model whose default it is to reuse steps is told not to.
        step_cache: Some(plan.step_cache.unwrap_or(0.0)),
        seed: Some(plan.seed),
        rng: Some(plan.rng),
        copies: Some(1),
        sampler: Some(plan.sampler),
        schedule: Some(plan.schedule),
        image: (plan.source.as_ref()).map(|source| to_reference(&source.image)),
        more_images: (plan.source.iter().flat_map(|source| &source.more_images))
            .map(|more| ImageRequest {
                image: to_reference(&more.image),
                strength: more.strength,
            })
            .collect(),
        mask: (plan.source.as_ref()).and_then(|source| source.mask.as_ref().map(to_reference)),
        strength: plan.source.as_ref().and_then(|source| source.strength),
        loras: (plan.loras.iter())
            .map(|lora| LoraRequest {
                name: lora.name.clone(),
                weight: lora.weight,
                expert: lora.expert,
            })
            .collect(),
        video: to_options(plan),
        // The numbers are those of the draft already.
        draft: false,
        output_name,
        format: Some(plan.output.format),
        priority: None,
        session: None,
    }
}

fn to_reference(picture: &PlannedPicture) -> PictureRef {
    PictureRef::Input(picture.sha256.clone())
}

fn to_options(plan: &Plan) -> VideoOptions {
    let end_image = (plan.source.as_ref()).and_then(|source| source.end_image.as_ref());
    let Some(video) = plan.video else {
        return VideoOptions::default();
    };
    VideoOptions {
        frames: Some(video.frames),
        seconds: None,
        fps: Some(video.fps),
        end_image: end_image.map(to_reference),
        cfg_2: video.cfg_2,
        low_share: video.low_share,
        boundary: video.boundary,
        shift: video.shift,
        sound: video.sound,
        context_frames: video.context_frames,
        context_overlap: video.context_overlap,
        vae_tiling: video.vae_tiling.then_some(true),
    }
}

/// Comparisons while they are made.
#[derive(Default)]
struct Parts(Vec<PartComparison>);

impl Parts {
    fn compare(&mut self, part: &str, expected: impl Into<String>, actual: impl Into<String>) {
        let (expected, actual) = (expected.into(), actual.into());
        self.0.push(PartComparison {
            part: part.to_owned(),
            is_same: expected == actual,
            expected,
            actual,
        });
    }

    fn finish(self) -> Verification {
        Verification {
            is_same: self.0.iter().all(|part| part.is_same),
            parts: self.0,
        }
    }
}

/// Build, numerics, and the model down to its files.
fn compare_machine(app: &App, recipe: &Recipe, parts: &mut Parts) -> Result<()> {
    parts.compare("build", &recipe.kinora, env!("CARGO_PKG_VERSION"));
    parts.compare("numerics", &recipe.plan.numerics, NUMERICS);
    let wanted = &recipe.plan.model;
    let candidates = app.catalogue().candidates();
    let found = candidates
        .iter()
        .find(|candidate| candidate.model.id == wanted.id);
    let Some(planned) = found.and_then(|candidate| candidate.planned.as_ref()) else {
        parts.compare("model", wanted.id.as_str(), "not installed");
        return Ok(());
    };
    parts.compare("model", wanted.id.as_str(), planned.id.as_str());
    let chosen = match wanted.components.is_empty() {
        true => planned.clone(),
        false => match (app.catalogue()).with_components(&wanted.id, &wanted.components) {
            Ok(planned) => planned,
            Err(problem) => {
                let names: Vec<&str> = wanted.components.values().map(String::as_str).collect();
                parts.compare("components", names.join(", "), problem.message);
                return Ok(());
            }
        },
    };
    let actual = app.catalogue().hash_weights(&chosen)?;
    for file in &wanted.weights {
        let other = actual
            .iter()
            .find(|other| other.component == file.component && other.file == file.file);
        parts.compare(
            &format!("weights/{}", file.component),
            hash_of(file),
            other.map_or_else(|| "missing".to_owned(), hash_of),
        );
    }
    if actual.len() != wanted.weights.len() {
        let count = |files: &[WeightFile]| format!("{} files", files.len());
        parts.compare("weights", count(&wanted.weights), count(&actual));
    }
    Ok(())
}

/// The file on disk, against what was stored when it was made.
fn compare_file(app: &App, asset: &Asset, parts: &mut Parts) -> Result<()> {
    let path = app.asset_file(asset);
    let bytes = match read_bounded(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            parts.compare("file", &asset.sha256, "missing");
            return Ok(());
        }
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    parts.compare("file", &asset.sha256, hex_digest(&bytes));
    let stored = asset.recipe.for_file();
    let inside = match read_recipe(&bytes) {
        // Earlier builds wrote more of it into the file.
        Ok(inside) if inside.for_file() == stored => "the stored recipe",
        Ok(_) => "another recipe",
        Err(_) => "no recipe",
    };
    parts.compare("metadata", "the stored recipe", inside);
    Ok(())
}

/// Every member of two plans but where they come from and go to.
fn compare_plans(expected: &Plan, actual: &Plan, parts: &mut Parts) -> Result<()> {
    // Where pictures and adapters lie says nothing about what they are.
    let without_machine = |plan: &Plan| {
        let mut plan = plan.clone();
        plan.forget_machine();
        plan
    };
    let expected = serde_json::to_value(without_machine(expected)).map_err(Error::internal)?;
    let actual = serde_json::to_value(without_machine(actual)).map_err(Error::internal)?;
    // What one of them does not say, it has nothing of.
    let names = [&expected, &actual].map(|plan| plan.as_object().into_iter().flatten());
    let names: BTreeSet<&String> = (names.into_iter().flatten())
        .map(|(name, _)| name)
        .collect();
    for name in names {
        if matches!(
            name.as_str(),
            "model" | "output" | "numerics" | "version" | "template" | "draft" | "parent"
        ) {
            continue;
        }
        let [value, other] = [&expected, &actual].map(|plan| plan[name.as_str()].to_string());
        parts.compare(&format!("plan/{name}"), value, other);
    }
    Ok(())
}

/// The SHA-256 of a weight file, as far as it is known.
fn hash_of(file: &WeightFile) -> String {
    let known = file.sha256.clone();
    known.unwrap_or_else(|| "not known".to_owned())
}

fn hex_digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
