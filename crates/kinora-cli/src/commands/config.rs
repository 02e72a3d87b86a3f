//! `kinora config`, and what other commands want to know of the configuration.

use std::path::PathBuf;

use kinora_app::config::{Config, ConfigReport, ValueSource};
use kinora_core::{Code, Problem};
use serde_json::json;

use crate::{Context, connection::Refusal, exit, output, text};

/// Prints every value and where it came from.
pub fn show(config: &Config, is_json: bool) -> u8 {
    let report = config.report();
    if is_json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => output::say(json),
            Err(error) => output::tell(format!("kinora: failed to write the answer: {error}")),
        }
        return exit::DONE;
    }
    let rows: Vec<Vec<String>> = report
        .values
        .iter()
        .map(|value| {
            let source = match value.source {
                ValueSource::Flag => "flag",
                ValueSource::Environment => "environment",
                ValueSource::File => "config.toml",
                ValueSource::Default => "default",
            };
            vec![
                value.key.clone(),
                value
                    .value
                    .clone()
                    .unwrap_or_else(|| "(not set)".to_owned()),
                source.to_owned(),
                value.variable.clone(),
            ]
        })
        .collect();
    output::say(format!(
        "{}\n\nFile: {}",
        text::table(&["key", "value", "from", "variable"], &rows),
        report.file
    ));
    exit::DONE
}

/// The folder that pictures are in, as the application sees it.
///
/// # Errors
/// When the connection is lost.
pub async fn outputs_folder(context: &Context) -> Result<PathBuf, Refusal> {
    let report: ConfigReport = context.connection.call("config_show", json!({})).await?;
    report
        .values
        .into_iter()
        .find(|value| value.key == "outputs_dir")
        .and_then(|value| value.value)
        .map(PathBuf::from)
        .ok_or_else(|| Problem::new(Code::Internal, "failed to find the outputs folder", "").into())
}
