//! `kinora video`: one clip, a draft of one, or a draft in full.

use kinora_app::jobs::Submitted;
use kinora_core::{AssetKind, Request};
use serde_json::json;

use crate::{Context, args::Video, connection::Refusal};

use super::{
    generate::{conclude, preflight},
    read_text, request,
};

/// Queues clips and waits for them.
///
/// # Errors
/// What the application refuses, a lost connection, Ctrl+C.
pub async fn run(context: &Context, arguments: Video) -> Result<u8, Refusal> {
    if !arguments.full.is_empty() {
        let id = |named: &String| named.trim_start_matches("asset:").to_owned();
        let ids: Vec<String> = arguments.full.iter().map(id).collect();
        let input = json!({ "ids": ids });
        let submitted: Submitted = context.connection.call("clips_make_full", input).await?;
        return conclude(context, &submitted, arguments.detach).await;
    }
    let prompt = match arguments.prompt.as_deref() {
        Some("-") => read_text("-".as_ref())?.trim().to_owned(),
        prompt => prompt.unwrap_or_default().to_owned(),
    };
    let request = Request {
        prompt,
        kind: Some(AssetKind::Video),
        draft: arguments.draft,
        ..request(context, &arguments.look).await?
    };
    if arguments.dry_run {
        return preflight(context, &request).await;
    }
    let submitted: Submitted = context.connection.call("jobs_submit", &request).await?;
    conclude(context, &submitted, arguments.detach).await
}
