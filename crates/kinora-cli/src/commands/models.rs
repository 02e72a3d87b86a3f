//! `kinora models`: the catalogue.

use kinora_app::models::{ModelComponents, ModelList};
use kinora_core::Model;
use serde_json::json;

use crate::{Context, args::Models, connection::Refusal, exit, text};

/// Runs `kinora models …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Models) -> Result<u8, Refusal> {
    match arguments {
        Models::List => {
            let list: ModelList = context.connection.call("models_list", json!({})).await?;
            context.print(&list, || {
                let rows: Vec<Vec<String>> = list
                    .models
                    .iter()
                    .map(|model| {
                        let state = match (&model.fault, model.is_installed) {
                            (Some(_), _) => "faulty",
                            (None, true) => "installed",
                            (None, false) => "not here",
                        };
                        let is_default = if list.default.as_ref() == Some(&model.id) {
                            "*"
                        } else {
                            ""
                        };
                        vec![
                            format!("{}{is_default}", model.id),
                            state.to_owned(),
                            text::bytes(model.bytes),
                            model.name.clone(),
                        ]
                    })
                    .collect();
                let table = text::table(&["id", "state", "size", "name"], &rows);
                let faults = list.faults.iter();
                let faults = faults.map(|fault| format!("\n  {}: {}", fault.path, fault.reason));
                match faults.collect::<String>() {
                    none if none.is_empty() => table,
                    faults => format!("{table}\n\nCannot be used:{faults}"),
                }
            });
        }
        Models::Show { id } => {
            let model: Model = context
                .connection
                .call("models_get", json!({ "id": id }))
                .await?;
            context.print(&model, || show(&model));
        }
        Models::Components { id } => {
            let list: ModelComponents = context
                .connection
                .call("models_components", json!({ "id": id }))
                .await?;
            context.print(&list, || show_components(&list));
        }
    }
    Ok(exit::DONE)
}

/// One line for each part, and one for each file that fits it.
fn show_components(list: &ModelComponents) -> String {
    let mut rows = Vec::new();
    for part in &list.components {
        let own = format!("{} (now)", part.file);
        rows.push(vec![part.component.clone(), String::new(), own]);
        for file in &part.choices {
            let size = text::bytes(file.bytes);
            rows.push(vec![String::new(), size, file.name.clone()]);
        }
    }
    text::table(&["part", "size", "file"], &rows)
}

fn show(model: &Model) -> String {
    let can = &model.capabilities;
    let mut lines = vec![
        format!(
            "{} ({}, {} {})",
            model.name,
            model.id,
            model.family.title(),
            model.variant
        ),
        format!("  {}", model.description),
        format!(
            "  on disk   {}, in memory {}",
            text::bytes(model.bytes),
            text::bytes(model.memory_bytes)
        ),
        format!(
            "  size      {}x{}; sides {} to {}, multiples of {}",
            can.size.default.width,
            can.size.default.height,
            can.size.min,
            can.size.max,
            can.size.multiple
        ),
        format!(
            "  steps     {} ({} to {})",
            can.steps.default, can.steps.min, can.steps.max
        ),
    ];
    if let Some(guidance) = &can.guidance {
        lines.push(format!(
            "  guidance  {} ({} to {})",
            guidance.default, guidance.min, guidance.max
        ));
    }
    if let Some(fault) = &model.fault {
        lines.push(format!("  cannot be used: {fault}"));
    }
    if let Some(url) = &model.approval_url {
        lines.push(format!("  licence   has to be accepted at {url}"));
    }
    lines.extend(
        model
            .example_prompts
            .iter()
            .map(|prompt| format!("  try       {prompt}")),
    );
    lines.join("\n")
}
