//! From a picture to a clip in one action, and from a draft to the whole.
//! Not here: what a draft leaves out (`resolve::draft`).

use std::sync::Arc;

use kinora_core::{
    Asset, AssetId, AssetKind, Code, Expansion, ModelId, PictureRef, Plan, Problem, Relative,
    Request, Seed, SessionId,
};
use kinora_queue::{BatchKind, NewJob};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    assets::AssetRef,
    bytes::read_bounded,
    decide::Decisions,
    error::{Error, Result},
    jobs::{Note, Submission, Submitted, enqueue},
    recipes::to_request,
    resolve::{Place, Resolved, choose_model, resolve},
};

/// The most pictures that are set in motion, or drafts made full, at once.
const MAX_TOGETHER: usize = 256;

/// Pictures to set in motion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnimatePictures {
    /// The pictures, each for a clip of its own.
    pub images: Vec<PictureRef>,
    /// What happens in the clips; empty: whatever the model sees in the picture. None: the words
    /// that each picture was made with, where it carries them.
    pub prompt: Option<String>,
    /// None: the settings' model for clips, else the first that begins with a picture.
    pub model: Option<ModelId>,
    /// None: a random one for each.
    pub seed: Option<Seed>,
    /// At once in full, without a draft first.
    pub full: bool,
    /// Session that the clips belong to; None: a new one.
    pub session: Option<SessionId>,
}

/// Drafts to make full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drafts {
    /// Which.
    pub ids: Vec<AssetId>,
}

/// What a result was made from, and what was made from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Relatives {
    /// What it was made from, as far as that is still there.
    pub parents: Vec<Relative>,
    /// What was made from it, the oldest first; at most the first 200.
    pub children: Vec<Relative>,
}

/// Queues a clip for each picture: a draft, unless asked otherwise.
pub async fn animate(app: &Arc<App>, input: AnimatePictures) -> Result<Submitted> {
    check_count(input.images.len(), "images", "picture")?;
    let reader = Arc::clone(app);
    let work = move || {
        let decisions = Decisions::gather(&reader);
        let (mut jobs, mut notes) = (Vec::new(), Vec::<Note>::new());
        for (copy, image) in (0_u32..).zip(&input.images) {
            let mut request = Request {
                expansion: Some(Expansion::Off),
                image: Some(image.clone()),
                kind: Some(AssetKind::Video),
                model: input.model.clone(),
                seed: input.seed,
                copies: Some(1),
                draft: !input.full,
                ..Request::default()
            };
            request.prompt = match &input.prompt {
                Some(prompt) => prompt.clone(),
                // Words that nobody typed just now are cut, not refused.
                None => {
                    let longest = longest_prompt(&decisions, &request);
                    words_of(&reader, image).chars().take(longest).collect()
                }
            };
            let resolved = decide(&decisions, &request, copy)?;
            notes.extend(fresh(resolved.notes, &notes));
            jobs.extend(resolved.plans.into_iter().map(|plan| NewJob {
                copy,
                ..NewJob::new(plan)
            }));
        }
        Ok::<_, Error>((jobs, notes, input.session))
    };
    let (jobs, notes, session) = tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??;
    let title = jobs.first().map_or("", |job| job.plan.prompt.as_str());
    let submission = Submission {
        kind: BatchKind::Copies,
        title: if title.is_empty() { "Clip" } else { title }.to_owned(),
        session,
        jobs,
        notes,
    };
    enqueue(app, submission).await
}

/// Queues drafts again as what they are drafts of: the same words, pictures and seed, and all the
/// pixels, steps and frames.
pub async fn make_full(app: &Arc<App>, input: Drafts) -> Result<Submitted> {
    check_count(input.ids.len(), "ids", "draft")?;
    let mut drafts = Vec::with_capacity(input.ids.len());
    for id in input.ids {
        drafts.push(app.queue().asset(id).await?);
    }
    let session = drafts.first().and_then(|draft| draft.session);
    let decisions = Decisions::gather(app);
    let work = move || {
        let (mut jobs, mut notes) = (Vec::new(), Vec::<Note>::new());
        for (copy, draft) in (0_u32..).zip(&drafts) {
            let request = full_request(draft)?;
            let resolved = decide(&decisions, &request, copy)?;
            notes.extend(fresh(resolved.notes, &notes));
            jobs.extend(resolved.plans.into_iter().map(|mut plan| {
                inherit(&mut plan, draft);
                NewJob {
                    copy,
                    ..NewJob::new(plan)
                }
            }));
        }
        Ok::<_, Error>((jobs, notes))
    };
    let (jobs, notes) = tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??;
    let title = jobs.first().map_or("", |job| job.plan.prompt.as_str());
    let submission = Submission {
        kind: BatchKind::Copies,
        title: if title.is_empty() { "Clip" } else { title }.to_owned(),
        session,
        jobs,
        notes,
    };
    enqueue(app, submission).await
}

/// What a result was made from, and what was made from it.
pub async fn relatives(app: &Arc<App>, input: AssetRef) -> Result<Relatives> {
    let (parents, children) = app.queue().relatives(input.id).await?;
    Ok(Relatives { parents, children })
}

fn check_count(count: usize, field: &str, name: &str) -> Result<()> {
    if (1..=MAX_TOGETHER).contains(&count) {
        return Ok(());
    }
    let message = format!("{count} {name}s are named");
    let hint = format!("Name from 1 to {MAX_TOGETHER}.");
    Err(Problem::in_field(field, message, hint).into())
}

/// Characters that the request's model reads. Which model that is, or why there is none, is said
/// when the request is decided.
fn longest_prompt(decisions: &Decisions, request: &Request) -> usize {
    let model = decisions.with(|context| {
        let chosen = choose_model(request, context).ok();
        chosen.map(|(model, _)| model.capabilities.prompt_chars as usize)
    });
    model.unwrap_or(usize::MAX)
}

/// The words that a picture was made with; empty where it carries none. Blocks.
fn words_of(app: &App, image: &PictureRef) -> String {
    match image {
        PictureRef::Asset(id) => {
            let found = app.store().read(|db| kinora_store::assets::get(db, *id));
            let asset = found.ok().flatten();
            asset.map_or_else(String::new, |asset| asset.recipe.plan.prompt)
        }
        PictureRef::Input(digest) => {
            let bytes = read_bounded(&app.inputs().path(digest)).ok();
            let metadata = bytes.and_then(|bytes| kinora_media::read_metadata(&bytes).ok());
            metadata.map_or_else(String::new, |metadata| metadata.to_request().0.prompt)
        }
    }
}

fn decide(decisions: &Decisions, request: &Request, copy: u32) -> Result<Resolved> {
    let place = Place {
        batch: decisions.batch_tag(),
        first_copy: copy,
        ..Place::default()
    };
    decisions
        .with(|context| resolve(request, place, context))
        .map_err(Error::from_list)
}

/// What was not said before: the same holds for every picture of a list.
fn fresh(notes: Vec<Note>, said: &[Note]) -> Vec<Note> {
    let is_new = |note: &Note| !said.contains(note);
    notes.into_iter().filter(is_new).collect()
}

/// The request for what a draft is a draft of.
fn full_request(draft: &Asset) -> Result<Request> {
    let plan = &draft.recipe.plan;
    let Some(full) = plan.draft else {
        let what = match draft.kind {
            AssetKind::Image => "picture",
            AssetKind::Video => "clip",
        };
        let message = format!("the {what} {} is no draft", draft.path);
        let hint = "Only drafts are made full; take its settings over to make it anew.";
        return Err(Problem::new(Code::Conflict, message, hint).into());
    };
    let mut request = to_request(plan, None);
    (request.width, request.height) = (Some(full.size.width), Some(full.size.height));
    request.steps = Some(full.steps);
    request.video.frames = full.frames;
    Ok(request)
}

/// What a plan has of the draft that it makes full besides the words and numbers.
fn inherit(plan: &mut Plan, draft: &Asset) {
    let own = &draft.recipe.plan;
    plan.parent = Some(draft.id);
    plan.template.clone_from(&own.template);
    // The request names pictures by their content alone.
    if let (Some(source), Some(known)) = (&mut plan.source, &own.source) {
        for (picture, known) in source.pictures_mut().zip(known.pictures()) {
            if picture.sha256 == known.sha256 {
                picture.asset = known.asset;
            }
        }
    }
}
