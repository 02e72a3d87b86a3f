//! `kinora wildcards`: lists of options that prompts can name.

use kinora_app::wildcards::{Wildcard, WildcardInfo, WildcardList};
use serde_json::json;

use crate::{Context, args::Wildcards, connection::Refusal, exit, text};

use super::read_text;

/// Runs `kinora wildcards …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Wildcards) -> Result<u8, Refusal> {
    match arguments {
        Wildcards::List => {
            let list: WildcardList = context.connection.call("wildcards_list", json!({})).await?;
            context.print(&list, || {
                let rows: Vec<Vec<String>> = list.wildcards.iter().map(row).collect();
                text::table(&["name", "options", "size", "fault"], &rows)
            });
        }
        Wildcards::Show { name } => {
            let wildcard: Wildcard = context
                .connection
                .call("wildcards_get", json!({ "name": name }))
                .await?;
            context.print(&wildcard, || wildcard.text.trim_end().to_owned());
        }
        Wildcards::Set {
            name,
            file,
            only_new,
        } => {
            let input = json!({ "name": name, "text": read_text(&file)?, "only_new": only_new });
            let saved: WildcardInfo = context.connection.call("wildcards_save", input).await?;
            context.print(&saved, || {
                let options = saved.options.unwrap_or(0);
                format!("<wildcard:{}> has {options} options", saved.name)
            });
        }
        Wildcards::Delete { name } => {
            let gone: Wildcard = context
                .connection
                .call("wildcards_remove", json!({ "name": name }))
                .await?;
            context.print(&gone, || format!("{} is deleted", gone.name));
        }
    }
    Ok(exit::DONE)
}

fn row(wildcard: &WildcardInfo) -> Vec<String> {
    let options = wildcard.options.map(|options| options.to_string());
    vec![
        wildcard.name.clone(),
        options.unwrap_or_default(),
        text::bytes(wildcard.bytes),
        wildcard.fault.clone().unwrap_or_default(),
    ]
}
