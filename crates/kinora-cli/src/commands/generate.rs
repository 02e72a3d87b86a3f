//! `kinora generate`: one prompt.

use kinora_app::{estimate::Preflight, jobs::Submitted};
use kinora_core::{JobId, Problems, Request};
use serde_json::json;

use crate::{Context, args::Generate, connection::Refusal, exit, follow, text};

use super::{describe_estimate, exit_code, pictures, read_text, request, tell_notes};

/// Queues the pictures of one prompt and waits for them.
///
/// # Errors
/// What the application refuses, a lost connection, Ctrl+C.
pub async fn run(context: &Context, arguments: Generate) -> Result<u8, Refusal> {
    let prompt = match arguments.prompt.as_deref() {
        Some("-") => read_text("-".as_ref())?.trim().to_owned(),
        prompt => prompt.unwrap_or_default().to_owned(),
    };
    let request = Request {
        prompt,
        ..request(context, &arguments.look).await?
    };
    if arguments.dry_run {
        return preflight(context, &request).await;
    }
    let submitted: Submitted = context.connection.call("jobs_submit", &request).await?;
    conclude(context, &submitted, arguments.detach).await
}

/// Names what was queued, or follows it to its end and prints its files.
///
/// # Errors
/// A lost connection, Ctrl+C.
pub async fn conclude(
    context: &Context,
    submitted: &Submitted,
    is_detached: bool,
) -> Result<u8, Refusal> {
    tell_notes(context, &submitted.notes);
    if is_detached {
        context.print(submitted, || {
            submitted
                .jobs
                .iter()
                .map(|job| format!("{}  seed {}", job.id, job.seed))
                .collect::<Vec<_>>()
                .join("\n")
        });
        return Ok(exit::DONE);
    }
    let ids: Vec<JobId> = submitted.jobs.iter().map(|job| job.id).collect();
    finish(context, &ids).await
}

/// Follows jobs to their end and prints their pictures.
///
/// # Errors
/// A lost connection, Ctrl+C.
pub async fn finish(context: &Context, ids: &[JobId]) -> Result<u8, Refusal> {
    let jobs = follow::follow(&context.connection, ids, context.is_quiet).await?;
    let assets = pictures(context, &jobs).await?;
    let folder = super::config::outputs_folder(context).await?;
    context.print(
        &json!({ "jobs": jobs, "assets": assets, "outputs": folder }),
        || {
            assets
                .iter()
                .map(|asset| folder.join(&asset.path).display().to_string())
                .collect::<Vec<_>>()
                .join("\n")
        },
    );
    Ok(exit_code(&jobs))
}

/// Says what a request would take, without queueing it.
///
/// # Errors
/// What the application would refuse, a lost connection.
pub async fn preflight(context: &Context, request: &Request) -> Result<u8, Refusal> {
    let preflight: Preflight = context.connection.call("jobs_preflight", request).await?;
    tell_notes(context, &preflight.notes);
    if let Some(problems) = Problems::from_list(preflight.problems.clone()) {
        return Err(problems.into());
    }
    context.print(&preflight, || {
        let estimate = preflight
            .estimate
            .as_ref()
            .map(describe_estimate)
            .unwrap_or_default();
        let files = preflight
            .outputs
            .iter()
            .map(|name| format!("\n  {}", text::shorten(name, 120)))
            .collect::<String>();
        format!("{} pictures: {estimate}{files}", preflight.pictures)
    });
    Ok(exit::DONE)
}
