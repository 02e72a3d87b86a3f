//! The table of commands: everything that a host can ask of the application, listed once.
//!
//! From it come the HTTP routes and their OpenAPI entries, the window's IPC, the TypeScript client
//! with its cache tags, and [`App::call`](crate::app::App::call). Adding an operation is one entry
//! here and one function in a use-case file.
//!
//! Not in the table, because they carry bytes instead of JSON: media files, uploads, the
//! WebSocket. Hosts write those routes by hand.

use std::sync::Arc;

use kinora_core::{BoxFuture, Problem};
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    app::App,
    assets, batches, bulk, capabilities, cleanup, clips, config,
    error::{Error, Result},
    estimate, jobs, logs, loras, models, prompts, queue, recipes, sessions, settings, system,
    wildcards,
};

/// How a command travels over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads; input in path and query.
    Get,
    /// Acts; input in path and body.
    Post,
    /// Changes parts; input in path and body.
    Patch,
    /// Removes; input in path and query.
    Delete,
}

impl Method {
    /// The word of the HTTP request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// Whether the input that is not in the path travels as a JSON body (else in the query).
    pub fn has_body(self) -> bool {
        matches!(self, Method::Post | Method::Patch)
    }
}

/// What a client may have cached. A reading command [reads](Command::reads) one tag; an acting one
/// names those that it makes stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// Jobs, one or many.
    Jobs,
    /// The queue's state and counts.
    Queue,
    /// Batches and their tables.
    Batches,
    /// Stored results.
    Assets,
    /// Sessions.
    Sessions,
    /// Settings.
    Settings,
    /// The catalogue.
    Models,
    /// What can be cleaned up.
    Cleanup,
    /// Lists of options for prompts.
    Wildcards,
    /// The machine and the program.
    System,
}

impl Tag {
    /// The word in generated files.
    pub fn as_str(self) -> &'static str {
        match self {
            Tag::Jobs => "jobs",
            Tag::Queue => "queue",
            Tag::Batches => "batches",
            Tag::Assets => "assets",
            Tag::Sessions => "sessions",
            Tag::Settings => "settings",
            Tag::Models => "models",
            Tag::Cleanup => "cleanup",
            Tag::Wildcards => "wildcards",
            Tag::System => "system",
        }
    }
}

/// One entry of the table, its types erased.
pub struct Command {
    /// Name in [`App::call`](crate::app::App::call), IPC and the TypeScript client.
    pub name: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Route, with `{id}` for members of the input that are part of it.
    pub path: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// Caches that it makes stale.
    pub changes: &'static [Tag],
    /// Schema of the input: an object, or a reference to one.
    pub input_schema: fn(&mut SchemaGenerator) -> Schema,
    /// Schema of the output.
    pub output_schema: fn(&mut SchemaGenerator) -> Schema,
    /// The use-case behind it.
    pub(crate) run: fn(Arc<App>, Value) -> BoxFuture<'static, Result<Value>>,
}

impl Command {
    /// The cache that the answer of a reading command belongs to; None for commands that act.
    pub fn reads(&self) -> Option<Tag> {
        if self.method != Method::Get {
            return None;
        }
        match self.name.split('_').next()? {
            "jobs" => Some(Tag::Jobs),
            "queue" => Some(Tag::Queue),
            "batches" => Some(Tag::Batches),
            "assets" => Some(Tag::Assets),
            "sessions" => Some(Tag::Sessions),
            "settings" => Some(Tag::Settings),
            "models" | "capabilities" | "loras" => Some(Tag::Models),
            "cleanup" => Some(Tag::Cleanup),
            "wildcards" => Some(Tag::Wildcards),
            "system" | "config" => Some(Tag::System),
            _ => None,
        }
    }

    /// The members of the input that are part of the route, in order.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.method.as_str(), self.path)
    }
}

/// Input of commands that need none.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct NoInput {}

/// An input as its type, or the member that does not fit.
fn read_input<T: DeserializeOwned>(input: Value) -> Result<T> {
    // No input at all is an input without members.
    let input = if input.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        input
    };
    serde_path_to_error::deserialize(input).map_err(|error| {
        let path = error.path().to_string();
        let message = name_numbers(error.inner().to_string());
        let hint = "See the description of the command for what it takes.";
        if path == "." {
            Problem::new(kinora_core::Code::InvalidInput, message, hint).into()
        } else {
            Problem::in_field(&path, format!("{path}: {message}"), hint).into()
        }
    })
}

/// Says what a number has to be in words, where it would be the name of a type.
fn name_numbers(message: String) -> String {
    const KINDS: [(&str, &str); 4] = [
        (
            "expected u32",
            "expected a whole number from 0 to 4294967295",
        ),
        (
            "expected u64",
            "expected a whole number from 0 to 18446744073709551615",
        ),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
    ];
    let found = KINDS.iter().find_map(|(kind, words)| {
        let start = message.strip_suffix(kind)?;
        Some(format!("{start}{words}"))
    });
    found.unwrap_or(message)
}

/// The entry of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

macro_rules! commands {
    ($(
        $name:ident $method:ident $path:literal $run:path, ($input:ty) -> $output:ty,
        changes [$($tag:ident)*], $summary:literal;
    )*) => {
        /// Everything that a host can ask.
        pub static COMMANDS: &[Command] = &[$(Command {
            name: stringify!($name),
            method: Method::$method,
            path: $path,
            summary: $summary,
            changes: &[$(Tag::$tag),*],
            input_schema: |generator| generator.subschema_for::<$input>(),
            output_schema: |generator| generator.subschema_for::<$output>(),
            run: |app, input| Box::pin(async move {
                let input: $input = read_input(input)?;
                let output: $output = $run(&app, input).await?;
                serde_json::to_value(output).map_err(Error::internal)
            }),
        }),*];
    };
}

commands! {
    system_info Get "/api/system" system::info, (NoInput) -> system::SystemInfo, changes [],
        "What this machine is, what runs on it, and what is free";
    system_logs Get "/api/system/logs" logs::page, (logs::LogQuery) -> logs::LogPage, changes [],
        "The newest lines of the log";

    capabilities_get Get "/api/capabilities" capabilities::get, (NoInput) -> capabilities::StudioCapabilities, changes [],
        "What this studio can do: models with their limits, samplers, formats, prompt lists";
    models_list Get "/api/models" models::list, (NoInput) -> models::ModelList, changes [],
        "Every model of the catalogue";
    models_get Get "/api/models/{id}" models::get, (models::ModelRef) -> kinora_core::Model, changes [],
        "One model and what it can do";
    models_components Get "/api/models/{id}/components" models::components, (models::ModelRef) -> models::ModelComponents, changes [],
        "The parts of a model for which files can be chosen, and which files fit";

    loras_list Get "/api/loras" loras::list, (NoInput) -> loras::LoraList, changes [],
        "Every LoRA file in the folder loras of the models folder";
    loras_check Get "/api/models/{model}/lora-check" loras::check, (loras::LoraQuery) -> loras::LoraCheck, changes [],
        "What of a LoRA file fits a model, before anything is run";

    jobs_preflight Post "/api/jobs/preflight" jobs::preflight, (kinora_core::Request) -> estimate::Preflight, changes [],
        "Checks a request and estimates its cost, without queueing anything";
    jobs_submit Post "/api/jobs" jobs::submit, (kinora_core::Request) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Queues the pictures of one request";
    jobs_list Get "/api/jobs" jobs::list, (jobs::JobQuery) -> jobs::JobPage, changes [],
        "Jobs, filtered and paged: a batch as its list was written, unfinished ones as they will run, others from the newest";
    jobs_get Get "/api/jobs/{id}" jobs::get, (jobs::JobRef) -> kinora_core::Job, changes [],
        "One job with its progress or its failure";
    jobs_cancel Post "/api/jobs/{id}/cancel" jobs::cancel, (jobs::JobRef) -> kinora_core::Job, changes [Jobs Queue Batches Sessions],
        "Cancels a job: at once when it waits, at its next step when it runs";
    jobs_pause Post "/api/jobs/{id}/pause" jobs::pause, (jobs::JobRef) -> kinora_core::Job, changes [Jobs Queue Batches],
        "Sets a job aside until it is resumed";
    jobs_resume Post "/api/jobs/{id}/resume" jobs::resume, (jobs::JobRef) -> kinora_core::Job, changes [Jobs Queue Batches],
        "Puts a paused job back into the queue";
    jobs_retry Post "/api/jobs/{id}/retry" jobs::retry, (jobs::RetryJob) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Queues a failed or cancelled job's plan again, with the fix that its failure suggests if wanted";
    jobs_move Post "/api/jobs/{id}/move" jobs::r#move, (jobs::MoveJob) -> kinora_core::Job, changes [Jobs Queue],
        "Moves a waiting job before another one, or to the end";
    jobs_set_priority Post "/api/jobs/{id}/priority" jobs::set_priority, (jobs::SetPriority) -> kinora_core::Job, changes [Jobs Queue],
        "Changes who goes first";
    jobs_remove Delete "/api/jobs/{id}" jobs::remove, (jobs::JobRef) -> queue::JobCount, changes [Jobs Queue Batches Sessions],
        "Forgets a finished job; its pictures stay";

    clips_animate Post "/api/clips" clips::animate, (clips::AnimatePictures) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Queues a clip that begins with a picture, one for each: a fast draft unless asked otherwise";
    clips_make_full Post "/api/clips/full" clips::make_full, (clips::Drafts) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Queues drafts again in full, with the same words, pictures and seed";

    queue_status Get "/api/queue" queue::status, (NoInput) -> kinora_core::QueueStatus, changes [],
        "Whether the queue runs, how many jobs stand where, and when it will be done";
    queue_pause Post "/api/queue/pause" queue::pause, (NoInput) -> kinora_core::QueueStatus, changes [Queue Jobs],
        "Starts no further job until the queue is resumed";
    queue_resume Post "/api/queue/resume" queue::resume, (NoInput) -> kinora_core::QueueStatus, changes [Queue Jobs],
        "Goes on starting jobs";
    queue_cancel_all Post "/api/queue/cancel-all" queue::cancel_all, (queue::JobScope) -> queue::JobCount, changes [Jobs Queue Batches Sessions],
        "Cancels every unfinished job, or those of one session or batch";
    queue_retry_failed Post "/api/queue/retry-failed" queue::retry_failed, (queue::RetryFailed) -> queue::JobCount, changes [Jobs Queue Batches Sessions],
        "Queues every failed job again, each with the fix that fits it if wanted";
    queue_clear_finished Post "/api/queue/clear-finished" queue::clear_finished, (queue::JobScope) -> queue::JobCount, changes [Jobs Queue Batches Sessions],
        "Forgets finished jobs; their pictures stay";

    prompts_preview Post "/api/prompts/preview" prompts::preview, (prompts::PreviewInput) -> prompts::PromptPreview, changes [],
        "Shows what a prompt with choices becomes, and how many combinations it has";
    wildcards_list Get "/api/wildcards" wildcards::list, (NoInput) -> wildcards::WildcardList, changes [],
        "Every wildcard: lists of options that prompts can name";
    wildcards_get Get "/api/wildcards/{name}" wildcards::get, (wildcards::WildcardRef) -> wildcards::Wildcard, changes [],
        "One wildcard with its lines";
    wildcards_save Post "/api/wildcards" wildcards::save, (wildcards::SaveWildcard) -> wildcards::WildcardInfo, changes [Wildcards],
        "Writes a wildcard, new or in place of the one of that name";
    wildcards_remove Delete "/api/wildcards/{name}" wildcards::remove, (wildcards::WildcardRef) -> wildcards::Wildcard, changes [Wildcards],
        "Deletes a wildcard and answers with what it said, so that it can be saved again";

    bulk_check Post "/api/bulk/check" bulk::check, (bulk::BulkInput) -> bulk::BulkCheck, changes [],
        "Reads a prompt list and names every bad row, without queueing anything";
    bulk_submit Post "/api/bulk" bulk::submit, (bulk::BulkInput) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Queues the pictures of a prompt list";

    batches_list Get "/api/batches" batches::list, (batches::BatchQuery) -> batches::BatchPage, changes [],
        "Batches, newest first";
    batches_get Get "/api/batches/{id}" batches::get, (batches::BatchRef) -> kinora_core::Batch, changes [],
        "One batch and its counts";
    batches_table Get "/api/batches/{id}/table" batches::table, (batches::TableQuery) -> batches::TableFile, changes [],
        "The results of a batch as a table, one line per picture";
    batches_contact_sheet Post "/api/batches/{id}/contact-sheet" batches::contact_sheet, (batches::BatchRef) -> batches::ContactSheet, changes [],
        "Draws the pictures of a batch onto one sheet";

    assets_list Get "/api/assets" assets::list, (assets::AssetQuery) -> assets::AssetPage, changes [],
        "Stored pictures, searched, filtered and paged";
    assets_get Get "/api/assets/{id}" assets::get, (assets::AssetRef) -> kinora_core::Asset, changes [],
        "One stored picture with its whole recipe";
    assets_relatives Get "/api/assets/{id}/relatives" clips::relatives, (assets::AssetRef) -> clips::Relatives, changes [],
        "What a stored picture or clip was made from, and what was made from it";
    assets_trash Post "/api/assets/trash" assets::trash, (assets::AssetIds) -> assets::AssetCount, changes [Assets Sessions Cleanup],
        "Moves pictures to the trash";
    assets_restore Post "/api/assets/restore" assets::restore, (assets::AssetIds) -> assets::AssetCount, changes [Assets Sessions Cleanup],
        "Takes pictures out of the trash";
    assets_purge Post "/api/assets/purge" assets::purge, (assets::AssetIds) -> assets::AssetCount, changes [Assets Cleanup],
        "Deletes trashed pictures and their files for good";

    recipes_verify Post "/api/recipes/verify" recipes::verify, (recipes::VerifyRecipe) -> recipes::Verification, changes [],
        "Says which parts of a picture's recipe are the same here and now, and which differ";
    recipes_run Post "/api/recipes/run" recipes::run, (recipes::RunRecipe) -> jobs::Submitted, changes [Jobs Queue Batches Sessions],
        "Makes the picture of a recipe again";

    sessions_list Get "/api/sessions" sessions::list, (sessions::SessionQuery) -> sessions::SessionPage, changes [],
        "Sessions, most recently used first";
    sessions_create Post "/api/sessions" sessions::create, (sessions::NewSession) -> kinora_core::Session, changes [Sessions],
        "Begins a session";
    sessions_rename Patch "/api/sessions/{id}" sessions::rename, (sessions::RenameSession) -> kinora_core::Session, changes [Sessions],
        "Gives a session another title";
    sessions_remove Delete "/api/sessions/{id}" sessions::remove, (sessions::RemoveSession) -> sessions::SessionRemoved, changes [Sessions Jobs Assets Batches Queue],
        "Removes a session; its pictures stay in the gallery unless asked otherwise";

    settings_get Get "/api/settings" settings::get, (NoInput) -> settings::Settings, changes [],
        "What the user chose";
    settings_update Patch "/api/settings" settings::update, (settings::SettingsUpdate) -> settings::Settings, changes [Settings],
        "Changes the settings that are named and keeps the others";
    config_show Get "/api/config" config::show, (NoInput) -> config::ConfigReport, changes [],
        "Folders, address and the like, each with where its value came from";

    cleanup_status Get "/api/cleanup" cleanup::status, (NoInput) -> cleanup::CleanupStatus, changes [],
        "How much disk everything takes, and what could go";
    cleanup_list Get "/api/cleanup/list" cleanup::list, (NoInput) -> cleanup::WorkFolders, changes [],
        "The work folder of every job";
    cleanup_run Post "/api/cleanup" cleanup::run, (cleanup::CleanupInput) -> cleanup::CleanupReport, changes [Cleanup Assets Sessions],
        "Deletes work files and old trash, or only says what would go; never a picture that is not in the trash";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_routes_are_unique_and_well_formed() {
        let mut names = HashSet::new();
        let mut routes = HashSet::new();
        for command in COMMANDS {
            assert!(names.insert(command.name), "{command:?}");
            assert!(routes.insert((command.method, command.path)), "{command:?}");
            assert!(command.path.starts_with("/api/"), "{command:?}");
            assert!(!command.summary.ends_with('.'), "{command:?}");
        }
        assert!(find("jobs_submit").is_some());
        assert!(find("jobs_submi").is_none());
    }

    #[test]
    fn numbers_are_refused_in_words() {
        let refuse = |input| read_input::<kinora_core::Request>(input).unwrap_err();
        let message = refuse(serde_json::json!({ "width": 99_999_999_999_u64 })).to_string();
        assert_eq!(
            message,
            "width: invalid value: integer `99999999999`, expected a whole number from 0 to 4294967295"
        );
        let message = refuse(serde_json::json!({ "guidance": "much" })).to_string();
        assert!(message.ends_with("expected a number"), "{message}");
    }

    #[test]
    fn reading_commands_change_nothing() {
        for command in COMMANDS.iter().filter(|c| c.method == Method::Get) {
            assert!(command.changes.is_empty(), "{command:?}");
            assert!(command.reads().is_some(), "{command:?}");
        }
    }
}
