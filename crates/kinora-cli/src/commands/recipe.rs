//! `kinora run` and `kinora verify`: pictures from the recipes inside them.

use std::path::Path;

use kinora_app::{
    bytes::read_bounded,
    jobs::Submitted,
    recipes::{self, PartComparison, Verification},
};
use kinora_core::{Asset, Code, JobId, Problem, Recipe};
use serde_json::json;

use crate::{
    Context,
    args::{Run, Verify},
    connection::Refusal,
    exit, follow, text,
};

use super::{pictures, tell_notes};

/// What a file that was named on the command line holds.
enum Source {
    /// A recipe on its own.
    Recipe(Box<Recipe>),
    /// Anything else: a picture, it is hoped.
    Picture(Vec<u8>),
}

impl Source {
    /// The recipe that it is or carries.
    fn recipe(&self) -> Result<Recipe, Refusal> {
        match self {
            Self::Recipe(recipe) => Ok(Recipe::clone(recipe)),
            Self::Picture(bytes) => Ok(recipes::read_recipe(bytes)?),
        }
    }
}

/// Makes a picture again from its recipe; from the settings in it, where another program made it.
///
/// # Errors
/// What the application refuses, a lost connection, Ctrl+C.
pub async fn run(context: &Context, arguments: Run) -> Result<u8, Refusal> {
    let source = read(&arguments.file)?;
    let (recipe, picture) = match source {
        Source::Recipe(recipe) => (Some(*recipe), Vec::new()),
        Source::Picture(bytes) => (recipes::read_recipe(&bytes).ok(), bytes),
    };
    let submitted: Submitted = match recipe {
        Some(recipe) => {
            context
                .connection
                .call("recipes_run", json!({ "recipe": recipe }))
                .await?
        }
        None => {
            let reading = context.connection.read_metadata(picture).await?;
            tell_notes(context, &reading.notes);
            let request = reading
                .request
                .ok_or_else(|| no_settings(&arguments.file))?;
            context.connection.call("jobs_submit", request).await?
        }
    };
    tell_notes(context, &submitted.notes);
    let ids: Vec<JobId> = submitted.jobs.iter().map(|job| job.id).collect();
    if arguments.detach {
        context.print(&submitted, || {
            ids.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        });
        return Ok(exit::DONE);
    }
    super::generate::finish(context, &ids).await
}

/// Says which part of a picture's recipe differs here; with `--render`, makes it and compares pixels
/// and bytes.
///
/// # Errors
/// What the application refuses, a lost connection, Ctrl+C.
pub async fn verify(context: &Context, arguments: Verify) -> Result<u8, Refusal> {
    let source = read(&arguments.file)?;
    let recipe = source.recipe()?;
    let parts = match &arguments.against {
        Some(other) => compare_files(&source, &recipe, &read(other)?)?,
        None => {
            if let (Source::Recipe(recipe), true) = (&source, arguments.render) {
                return Err(no_picture(recipe));
            }
            let verification: Verification = context
                .connection
                .call("recipes_verify", json!({ "recipe": recipe }))
                .await?;
            let mut parts = verification.parts;
            if let (Source::Picture(bytes), true) = (&source, arguments.render) {
                let made = render(context, &recipe).await?;
                let made = context.connection.read_asset(&made).await?;
                parts.extend(recipes::compare_results(bytes, &made)?);
            }
            parts
        }
    };
    let other = match arguments.against {
        Some(_) => "there",
        None => "here",
    };
    let verification = Verification {
        is_same: parts.iter().all(|part| part.is_same),
        parts,
    };
    context.print(&verification, || {
        let rows = verification.parts.iter().map(|part| {
            let verdict = if part.is_same { "same" } else { "DIFFERS" };
            let detail = if part.is_same {
                text::shorten(&part.expected, 80)
            } else {
                format!(
                    "{} in the file, {} {other}",
                    text::shorten(&part.expected, 80),
                    text::shorten(&part.actual, 160)
                )
            };
            vec![part.part.clone(), verdict.to_owned(), detail]
        });
        text::table(&["part", "verdict", "value"], &rows.collect::<Vec<_>>())
    });
    Ok(if verification.is_same {
        exit::DONE
    } else {
        exit::DIFFERS
    })
}

/// Compares what two files say and, where both hold results, what they show.
fn compare_files(
    source: &Source,
    recipe: &Recipe,
    other: &Source,
) -> Result<Vec<PartComparison>, Refusal> {
    let mut parts = recipes::compare_recipes(recipe, &other.recipe()?)?;
    if let (Source::Picture(bytes), Source::Picture(others)) = (source, other) {
        parts.extend(recipes::compare_results(bytes, others)?);
    }
    Ok(parts)
}

/// Makes the picture again; it stays in the gallery like any other.
async fn render(context: &Context, recipe: &Recipe) -> Result<Asset, Refusal> {
    let input = json!({ "recipe": recipe, "allow_differences": true });
    let submitted: Submitted = context.connection.call("recipes_run", input).await?;
    let ids: Vec<JobId> = submitted.jobs.iter().map(|job| job.id).collect();
    let jobs = follow::follow(&context.connection, &ids, context.is_quiet).await?;
    let asset = pictures(context, &jobs).await?.into_iter().next();
    asset.ok_or_else(|| {
        let failure = jobs.iter().find_map(|job| job.failure.clone());
        match failure {
            Some(failure) => Problem::new(
                failure.code,
                format!("failed to {}", failure.message),
                failure.hint,
            ),
            None => Problem::new(
                Code::Conflict,
                "the picture was cancelled before it was made",
                "Verify again, and let it finish.",
            ),
        }
        .into()
    })
}

fn read(file: &Path) -> Result<Source, Refusal> {
    let bytes = read_bounded(file).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::FileTooLarge => Code::UnsupportedFile,
            _ => Code::Io,
        };
        Problem::new(
            code,
            format!("failed to read {}: {error}", file.display()),
            "Name a picture or a recipe.",
        )
    })?;
    // A recipe on its own is JSON; anything else is a picture that may carry one.
    Ok(match serde_json::from_slice(&bytes) {
        Ok(recipe) => Source::Recipe(recipe),
        Err(_) => Source::Picture(bytes),
    })
}

fn no_picture(recipe: &Recipe) -> Refusal {
    Problem::new(
        Code::InvalidInput,
        format!(
            "a recipe alone (of \"{}\") has no picture to compare with",
            text::shorten(&recipe.plan.prompt, 60)
        ),
        "Name the picture, or leave --render out.",
    )
    .into()
}

fn no_settings(file: &Path) -> Refusal {
    Problem::new(
        Code::UnsupportedFile,
        format!("{} carries no settings", file.display()),
        "Name a picture as Kinora wrote it; programs that re-save pictures often drop what is inside.",
    )
    .into()
}
