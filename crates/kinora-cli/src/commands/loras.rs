//! `kinora loras`: which LoRA files there are, and what of them fits a model.

use kinora_app::{
    loras::{LoraCheck, LoraInfo, LoraList},
    models::ModelList,
};
use kinora_core::{Code, ModelId, Problem, Problems};
use serde::Serialize;
use serde_json::json;

use crate::{Context, args::Loras, connection::Refusal, exit, text};

/// Tensors without a place that are shown for each file.
const SHOWN: usize = 3;

/// A file against a model.
#[derive(Serialize)]
struct Checked {
    name: String,
    model: ModelId,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<LoraCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problems>,
}

/// Runs `kinora loras …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Loras) -> Result<u8, Refusal> {
    match arguments {
        Loras::List => {
            let list: LoraList = context.connection.call("loras_list", json!({})).await?;
            context.print(&list, || show_list(&list));
            Ok(exit::DONE)
        }
        Loras::Check { names, model } => check(context, names, model).await,
    }
}

async fn check(
    context: &Context,
    mut names: Vec<String>,
    model: Option<String>,
) -> Result<u8, Refusal> {
    let model: ModelId = match model {
        Some(id) => ModelId::new(id),
        None => {
            let list: ModelList = context.connection.call("models_list", json!({})).await?;
            list.default.ok_or_else(|| {
                let message = "there is no model to check files against";
                let hint = "Put a model's files into the models folder, or name a model.";
                Problem::new(Code::ModelNotInstalled, message, hint)
            })?
        }
    };
    if names.is_empty() {
        let list: LoraList = context.connection.call("loras_list", json!({})).await?;
        let usable = list.loras.into_iter().filter(|lora| lora.fault.is_none());
        names = usable.map(|lora| lora.name).collect();
    }
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let input = json!({ "name": name, "model": model });
        let (check, problem) = match context.connection.call("loras_check", input).await {
            Ok(check) => (Some(check), None),
            Err(Refusal::Problems(problems)) => (None, Some(*problems)),
            Err(other) => return Err(other),
        };
        all.push(Checked {
            name,
            model: model.clone(),
            check,
            problem,
        });
    }
    context.print(&all, || show_checks(&all));
    let mut refused = all.iter().filter_map(|one| one.problem.as_ref());
    Ok(match refused.next() {
        None => exit::DONE,
        Some(first) if all.len() == 1 => exit::code_for(first),
        Some(_) => exit::PARTLY,
    })
}

fn show_list(list: &LoraList) -> String {
    if list.loras.is_empty() {
        return format!(
            "There are none yet. Put .safetensors files into {}",
            list.folder
        );
    }
    let rows: Vec<Vec<String>> = list.loras.iter().map(row).collect();
    text::table(&["name", "size", "rank", "made for", "fault"], &rows)
}

fn row(lora: &LoraInfo) -> Vec<String> {
    let expert = lora
        .expert
        .map(|expert| format!(", {} noise", expert.name()));
    let base = lora.base.clone().unwrap_or_default();
    vec![
        lora.name.clone(),
        text::bytes(lora.bytes),
        ranks(&lora.ranks),
        format!("{base}{}", expert.unwrap_or_default()),
        lora.fault.clone().unwrap_or_default(),
    ]
}

fn ranks(ranks: &[usize]) -> String {
    match ranks {
        [] => "-".to_owned(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

fn show_checks(all: &[Checked]) -> String {
    let mut rows = Vec::new();
    let mut details = Vec::new();
    for Checked {
        name,
        check,
        problem,
        ..
    } in all
    {
        let mut cells = vec![name.clone()];
        if let Some(check) = check {
            cells.extend([
                format!("{} of {}", check.applied, check.tensors),
                ranks(&check.ranks),
                check.kinds.join(", "),
                check.base.clone().unwrap_or_default(),
            ]);
            for tensor in check.unmatched.iter().take(SHOWN) {
                details.push(format!("{name}: without {}: {}", tensor.key, tensor.reason));
            }
            let more = check.unmatched_count.saturating_sub(SHOWN);
            if more > 0 {
                details.push(format!("{name}: and without {more} more"));
            }
        } else {
            cells.extend(["none", "", "", ""].map(str::to_owned));
        }
        if let Some(problem) = problem {
            details.push(format!("{name}: {}", problem.first.message));
            details.push(format!("{name}: {}", problem.first.hint));
        }
        rows.push(cells);
    }
    let table = text::table(&["name", "applied", "rank", "kind", "made for"], &rows);
    [vec![table], details].concat().join("\n")
}
