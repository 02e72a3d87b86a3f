//! `kinora cleanup`: giving disk space back.

use kinora_app::cleanup::{CleanupReport, CleanupStatus, DiskUsage, WorkFolders};
use serde_json::json;

use crate::{Context, args::Cleanup, connection::Refusal, exit, text};

/// Runs `kinora cleanup …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Cleanup) -> Result<u8, Refusal> {
    if arguments.status {
        let status: CleanupStatus = context.connection.call("cleanup_status", json!({})).await?;
        context.print(&status, || show(&status));
    } else if arguments.list {
        let list: WorkFolders = context.connection.call("cleanup_list", json!({})).await?;
        context.print(&list, || {
            let rows: Vec<Vec<String>> = list
                .folders
                .iter()
                .map(|folder| {
                    let state = folder.state.map_or("unknown", |state| state.as_str());
                    vec![
                        folder.job.to_string(),
                        state.to_owned(),
                        text::bytes(folder.bytes),
                    ]
                })
                .collect();
            text::table(&["job", "state", "size"], &rows)
        });
    } else {
        let input = json!({
            "hours": arguments.hours, "job": arguments.job, "all": arguments.all, "dry_run": arguments.dry_run
        });
        let report: CleanupReport = context.connection.call("cleanup_run", input).await?;
        context.print(&report, || {
            let verb = if report.dry_run {
                "would remove"
            } else {
                "removed"
            };
            [
                ("work files", report.work),
                ("trash", report.trash),
                ("caches", report.caches),
            ]
            .map(|(name, usage)| format!("{verb} {}", line(name, usage)))
            .join("\n")
        });
    }
    Ok(exit::DONE)
}

fn line(name: &str, usage: DiskUsage) -> String {
    format!("{:>6} {name}, {}", usage.count, text::bytes(usage.bytes))
}

fn show(status: &CleanupStatus) -> String {
    let mut lines = vec![
        line("pictures", status.pictures),
        line("pictures in the trash", status.trash),
        line("work files of jobs", status.work),
        line("cached thumbnails, sheets, encoded prompts", status.caches),
        line("database files", status.database),
        line("files that Kinora does not know", status.unknown_files),
    ];
    if status.missing_files > 0 {
        lines.push(format!(
            "{:>6} pictures whose file is gone",
            status.missing_files
        ));
    }
    lines.push(format!(
        "{} free on the disk",
        text::bytes(status.disk_free)
    ));
    lines.join("\n")
}
