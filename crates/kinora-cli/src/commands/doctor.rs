//! `kinora doctor`: what this machine is, what is missing, what to do.

use kinora_app::{
    config::Config,
    logs::LogBuffer,
    models::ModelList,
    system::{EngineState, SystemInfo},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    connection::{Connection, Refusal},
    exit, output, text,
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    Good,
    Notable,
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    what: String,
    finding: Finding,
    found: String,
    hint: Option<String>,
}

impl Check {
    fn new(what: &str, finding: Finding, found: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            finding,
            found: found.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Looks at everything and prints what it found; fails when something keeps Kinora from working.
///
/// # Errors
/// A lost connection. A data folder that cannot be opened is a finding.
pub async fn run(config: Config, logs: LogBuffer, is_json: bool) -> Result<u8, Refusal> {
    let mut checks = Vec::new();
    match Connection::open(config, logs).await {
        Ok(connection) => {
            let where_to = match &connection {
                Connection::Here(..) => "opened here".to_owned(),
                Connection::There(_) => "open in a running Kinora, which answers".to_owned(),
            };
            checks.push(Check::new("data folder", Finding::Good, where_to));
            let system: SystemInfo = connection.call("system_info", json!({})).await?;
            look_at_system(&system, &mut checks);
            let models: ModelList = connection.call("models_list", json!({})).await?;
            look_at_models(&models, &mut checks);
            connection.close().await;
        }
        Err(Refusal::Problems(problems)) => {
            let check = Check::new("data folder", Finding::Bad, problems.first.message.clone());
            checks.push(check.hint(problems.first.hint.clone()));
        }
        Err(refusal) => return Err(refusal),
    }
    let is_fit = checks.iter().all(|check| check.finding != Finding::Bad);
    if is_json {
        output::say(json!({ "is_fit": is_fit, "checks": checks }).to_string());
    } else {
        for check in &checks {
            let mark = match check.finding {
                Finding::Good => "ok  ",
                Finding::Notable => "note",
                Finding::Bad => "BAD ",
            };
            output::say(format!("{mark}  {:<14} {}", check.what, check.found));
            if let Some(hint) = &check.hint {
                output::say(format!("      {:<14} {hint}", ""));
            }
        }
    }
    Ok(if is_fit { exit::DONE } else { exit::FAILED })
}

fn look_at_system(system: &SystemInfo, checks: &mut Vec<Check>) {
    checks.push(Check::new(
        "machine",
        Finding::Good,
        format!(
            "{}, {}, {} cores",
            system.os, system.cpu.name, system.cpu.cores
        ),
    ));
    let memory = format!(
        "{} of {} free",
        text::bytes(system.memory.available),
        text::bytes(system.memory.total)
    );
    let check = Check::new("memory", Finding::Good, memory.clone());
    checks.push(if system.memory.available < 2 << 30 {
        Check::new("memory", Finding::Notable, memory)
            .hint("Close other programs: large models will be refused.")
    } else {
        check
    });
    if system.gpus.is_empty() {
        checks.push(
            Check::new(
                "GPU",
                Finding::Notable,
                "none found; pictures are made on the CPU",
            )
            .hint("With an NVIDIA card, install its driver and build with `make build CUDA=1`."),
        );
    }
    for gpu in &system.gpus {
        checks.push(Check::new("GPU", Finding::Good, gpu.name.clone()));
    }
    let engine = &system.engine;
    let found = match (&engine.last_failure, &engine.device) {
        (Some(failure), _) => format!("the last one ended: {failure}"),
        (None, Some(device)) => format!("{} ({:?})", device.name, engine.state).to_lowercase(),
        (None, None) => "starts with the first picture".to_owned(),
    };
    checks.push(match engine.state {
        EngineState::Unavailable => Check::new("engine", Finding::Bad, found).hint(
            "The program kinora-engine has to lie beside kinora, or be named by KINORA_ENGINE.",
        ),
        _ => Check::new("engine", Finding::Good, found),
    });
    for folder in &system.folders {
        let found = format!("{} ({} free)", folder.path, text::bytes(folder.free));
        let check = if folder.free < 1 << 30 {
            Check::new(&folder.name, Finding::Notable, found)
                .hint("Less than 1 GiB is free: `kinora cleanup --status` shows what could go.")
        } else {
            Check::new(&folder.name, Finding::Good, found)
        };
        checks.push(check);
    }
}

fn look_at_models(models: &ModelList, checks: &mut Vec<Check>) {
    let installed: Vec<&str> = models
        .models
        .iter()
        .filter(|model| model.is_installed)
        .map(|model| model.id.as_str())
        .collect();
    checks.push(if installed.is_empty() {
        Check::new("models", Finding::Bad, "none is installed")
            .hint("Put a diffusers folder into the models folder; `kinora config show` names it.")
    } else {
        Check::new("models", Finding::Good, installed.join(", "))
    });
    for model in &models.models {
        if let Some(fault) = &model.fault {
            checks.push(Check::new(
                "model",
                Finding::Notable,
                format!("{} cannot be used: {fault}", model.id),
            ));
        }
    }
}
