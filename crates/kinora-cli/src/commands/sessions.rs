//! `kinora sessions`: named stretches of work.

use kinora_app::sessions::{SessionPage, SessionRemoved};
use kinora_core::Session;
use serde_json::json;

use crate::{Context, args::Sessions, connection::Refusal, exit, text};

/// Runs `kinora sessions …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Sessions) -> Result<u8, Refusal> {
    match arguments {
        Sessions::List => {
            let page: SessionPage = context.connection.call("sessions_list", json!({})).await?;
            context.print(&page, || {
                let rows: Vec<Vec<String>> = page
                    .sessions
                    .iter()
                    .map(|session| {
                        vec![
                            session.id.to_string(),
                            session.assets.to_string(),
                            session.counts.total().to_string(),
                            text::shorten(&session.title, 60),
                        ]
                    })
                    .collect();
                text::table(&["id", "pictures", "jobs", "title"], &rows)
            });
        }
        Sessions::Create { title } => {
            let session: Session = context
                .connection
                .call("sessions_create", json!({ "title": title }))
                .await?;
            context.print(&session, || session.id.to_string());
        }
        Sessions::Rename { id, title } => {
            let input = json!({ "id": id, "title": title });
            let session: Session = context.connection.call("sessions_rename", input).await?;
            context.print(&session, || {
                format!("{} is called {} now", session.id, session.title)
            });
        }
        Sessions::Remove { id } => {
            let removed: SessionRemoved = context
                .connection
                .call("sessions_remove", json!({ "id": id }))
                .await?;
            context.print(&removed, || "removed; its pictures stay".to_owned());
        }
    }
    Ok(exit::DONE)
}
