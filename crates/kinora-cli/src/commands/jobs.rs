//! `kinora jobs`: looking at jobs and steering them.

use kinora_app::{
    jobs::{JobPage, Submitted},
    queue::JobCount,
};
use kinora_core::{Job, JobId, JobState, QueueStatus};
use serde_json::{Value, json};

use crate::{
    Context,
    args::{Jobs, State},
    connection::Refusal,
    exit, follow, text,
};

/// Runs `kinora jobs …`.
///
/// # Errors
/// What the application refuses, a lost connection, Ctrl+C.
pub async fn run(context: &Context, arguments: Jobs) -> Result<u8, Refusal> {
    match arguments {
        Jobs::List {
            state,
            batch,
            session,
            limit,
            offset,
        } => {
            let states: Vec<JobState> = state.into_iter().map(job_state).collect();
            let input = json!({
                "states": states, "batch": batch, "session": session, "limit": limit, "offset": offset
            });
            let page: JobPage = context.connection.call("jobs_list", input).await?;
            context.print(&page, || list(&page));
        }
        Jobs::Show { id } => {
            let job: Job = context
                .connection
                .call("jobs_get", json!({ "id": id }))
                .await?;
            context.print(&job, || show(&job));
        }
        Jobs::Watch { ids } => return watch(context, ids).await,
        Jobs::Cancel {
            ids,
            all,
            batch,
            session,
        } => {
            if all || batch.is_some() || session.is_some() {
                let input = json!({ "batch": batch, "session": session });
                let count: JobCount = context.connection.call("queue_cancel_all", input).await?;
                context.print(&count, || format!("{} jobs cancelled", count.jobs));
            } else {
                each(context, "jobs_cancel", &ids).await?;
            }
        }
        Jobs::Pause { ids } => pause(context, "pause", &ids).await?,
        Jobs::Resume { ids } => pause(context, "resume", &ids).await?,
        Jobs::Retry { ids, fix, batch } => retry(context, &ids, fix, batch).await?,
        Jobs::Move { id, before } => {
            let job: Job = context
                .connection
                .call("jobs_move", json!({ "id": id, "before": before }))
                .await?;
            context.print(&job, || "moved".to_owned());
        }
        Jobs::Priority { id, priority } => {
            let input = json!({ "id": id, "priority": priority });
            let job: Job = context.connection.call("jobs_set_priority", input).await?;
            context.print(&job, || format!("{} is {priority} now", job.id));
        }
        Jobs::Remove { ids, finished } => {
            if finished {
                let count: JobCount = context
                    .connection
                    .call("queue_clear_finished", json!({}))
                    .await?;
                context.print(&count, || format!("{} finished jobs forgotten", count.jobs));
            } else {
                for id in &ids {
                    let _: JobCount = context
                        .connection
                        .call("jobs_remove", json!({ "id": id }))
                        .await?;
                }
                context.print(&json!({ "jobs": ids.len() }), || {
                    format!("{} jobs forgotten", ids.len())
                });
            }
        }
    }
    Ok(exit::DONE)
}

async fn each(context: &Context, command: &str, ids: &[String]) -> Result<(), Refusal> {
    let mut jobs = Vec::new();
    for id in ids {
        let job: Job = context
            .connection
            .call(command, json!({ "id": id }))
            .await?;
        jobs.push(job);
    }
    context.print(&jobs, || {
        jobs.iter()
            .map(|job| format!("{}  {}", job.id, job.state.as_str()))
            .collect::<Vec<_>>()
            .join("\n")
    });
    Ok(())
}

async fn pause(context: &Context, verb: &str, ids: &[String]) -> Result<(), Refusal> {
    if !ids.is_empty() {
        return each(context, &format!("jobs_{verb}"), ids).await;
    }
    let queue: QueueStatus = context
        .connection
        .call(&format!("queue_{verb}"), json!({}))
        .await?;
    context.print(&queue, || {
        let state = if queue.is_paused { "paused" } else { "running" };
        format!("the queue is {state}; {} jobs wait", queue.counts.queued)
    });
    Ok(())
}

async fn retry(
    context: &Context,
    ids: &[String],
    fix: bool,
    batch: Option<String>,
) -> Result<(), Refusal> {
    if ids.is_empty() {
        let input = json!({ "batch": batch, "with_fix": fix });
        let count: JobCount = context.connection.call("queue_retry_failed", input).await?;
        context.print(&count, || format!("{} jobs queued again", count.jobs));
        return Ok(());
    }
    let mut all = Vec::new();
    for id in ids {
        let submitted: Submitted = context
            .connection
            .call("jobs_retry", json!({ "id": id, "with_fix": fix }))
            .await?;
        all.extend(submitted.jobs);
    }
    context.print(&all, || {
        all.iter()
            .map(|job| job.id.to_string())
            .collect::<Vec<_>>()
            .join("\n")
    });
    Ok(())
}

async fn watch(context: &Context, ids: Vec<String>) -> Result<u8, Refusal> {
    let ids = if ids.is_empty() {
        let page: JobPage = context
            .connection
            .call("jobs_list", json!({ "active": true, "limit": 500 }))
            .await?;
        page.jobs.iter().map(|job| job.id).collect()
    } else {
        ids.iter()
            .map(|id| parse_id(id))
            .collect::<Result<Vec<JobId>, Refusal>>()?
    };
    if ids.is_empty() {
        context.print(&Value::Array(Vec::new()), || "no job is active".to_owned());
        return Ok(exit::DONE);
    }
    let jobs = follow::follow(&context.connection, &ids, context.is_quiet).await?;
    context.print(&jobs, String::new);
    Ok(super::exit_code(&jobs))
}

fn parse_id(id: &str) -> Result<JobId, Refusal> {
    id.parse().map_err(|_| {
        kinora_core::Problem::in_field(
            "id",
            format!("`{id}` is not the id of a job"),
            "`kinora jobs list` shows them.",
        )
        .into()
    })
}

fn job_state(state: State) -> JobState {
    match state {
        State::Queued => JobState::Queued,
        State::Paused => JobState::Paused,
        State::Running => JobState::Running,
        State::Done => JobState::Done,
        State::Failed => JobState::Failed,
        State::Cancelled => JobState::Cancelled,
    }
}

fn list(page: &JobPage) -> String {
    if page.jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let rows: Vec<Vec<String>> = page
        .jobs
        .iter()
        .map(|job| {
            let state = match &job.progress {
                Some(progress) => {
                    format!("{} {:.0} %", job.state.as_str(), progress.fraction * 100.0)
                }
                None => job.state.as_str().to_owned(),
            };
            vec![
                job.id.to_string(),
                state,
                job.plan.model.id.to_string(),
                format!("{}x{}", job.plan.size.width, job.plan.size.height),
                text::shorten(&job.plan.prompt, 60),
            ]
        })
        .collect();
    let table = text::table(&["id", "state", "model", "size", "prompt"], &rows);
    if page.total > rows.len() as u64 {
        format!("{table}\n({} of {})", rows.len(), page.total)
    } else {
        table
    }
}

fn show(job: &Job) -> String {
    let plan = &job.plan;
    let mut lines = vec![
        format!("{}  {}", job.id, job.state.as_str()),
        format!("  prompt    {}", plan.prompt),
        format!("  model     {} ({})", plan.model.name, plan.model.id),
        format!(
            "  size      {}x{}, {} steps, seed {}",
            plan.size.width, plan.size.height, plan.steps, plan.seed
        ),
        format!("  attempts  {}", job.epoch),
    ];
    if !plan.negative_prompt.is_empty() {
        lines.insert(2, format!("  negative  {}", plan.negative_prompt));
    }
    if let Some(timings) = &job.timings {
        lines.push(format!(
            "  time      queued {}, loading {}, encoding {}, generating {}, decoding {}, saving {}",
            text::seconds(timings.queued_ms / 1e3),
            text::seconds(timings.loading_ms / 1e3),
            text::seconds(timings.encoding_ms / 1e3),
            text::seconds(timings.generating_ms / 1e3),
            text::seconds(timings.decoding_ms / 1e3),
            text::seconds(timings.saving_ms / 1e3),
        ));
    }
    if let Some(failure) = &job.failure {
        lines.push(format!("  failed to {}", failure.message));
        lines.push(format!("  {}", failure.hint));
        if let (Some(stage), step) = (failure.stage, failure.step) {
            let step = step
                .map(|step| format!(", step {step}"))
                .unwrap_or_default();
            lines.push(format!("  while     {stage:?}{step}").to_lowercase());
        }
        lines.extend(failure.log.iter().map(|line| format!("    {line}")));
    }
    lines.join("\n")
}
