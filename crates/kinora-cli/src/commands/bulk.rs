//! `kinora bulk`: a list of prompts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kinora_app::{
    batches::{ContactSheet, TableFile},
    bulk::{self, BulkCheck, BulkInput, Combine, ListFormat},
    jobs::Submitted,
};
use kinora_core::{BatchId, JobId, JobState, Problems};
use serde_json::json;

use crate::{
    Context,
    args::{self, Bulk},
    connection::Refusal,
    exit, follow, text,
};

use super::{describe_estimate, exit_code, picture, read_text, request, tell_notes};

/// Queues the pictures of a list and waits for them.
///
/// # Errors
/// Every bad row at once, a lost connection, Ctrl+C.
pub async fn run(context: &Context, arguments: Bulk) -> Result<u8, Refusal> {
    let text = read_text(&arguments.file)?;
    let name = arguments.name.or_else(|| {
        let name = arguments.file.file_name().filter(|name| *name != "-")?;
        Some(name.to_string_lossy().into_owned())
    });
    let format = arguments.list_format.map(|format| match format {
        args::ListFormat::Lines => ListFormat::Lines,
        args::ListFormat::Csv => ListFormat::Csv,
        args::ListFormat::Tsv => ListFormat::Tsv,
        args::ListFormat::Jsonl => ListFormat::Jsonl,
    });
    // Pictures lie where the list says, seen from the list.
    let folder = arguments.file.parent().unwrap_or(Path::new(""));
    let mut pictures = BTreeMap::new();
    for named in bulk::picture_names(&text, name.as_deref(), format) {
        let path = folder.join(&named).to_string_lossy().into_owned();
        if let Some(reference) = picture(context, Some(&path)).await? {
            pictures.insert(named, reference);
        }
    }
    let input = BulkInput {
        text,
        name,
        format,
        pictures,
        defaults: request(context, &arguments.look).await?,
        combine: match arguments.combine {
            Some(args::Combine::Zip) => Combine::Zip,
            Some(args::Combine::Product) | None => Combine::Product,
        },
        rows_limit: None,
    };
    if arguments.dry_run {
        return check(context, &input).await;
    }
    let submitted: Submitted = context.connection.call("bulk_submit", &input).await?;
    tell_notes(context, &submitted.notes);
    if arguments.detach {
        context.print(&submitted, || {
            format!("{}  {} pictures", submitted.batch, submitted.pictures)
        });
        return Ok(exit::DONE);
    }
    context.tell(format!(
        "{} pictures queued (batch {})",
        submitted.pictures, submitted.batch
    ));
    let ids: Vec<JobId> = submitted.jobs.iter().map(|job| job.id).collect();
    let jobs = follow::follow(&context.connection, &ids, context.is_quiet).await?;
    let extras = extras(
        context,
        submitted.batch,
        arguments.contact_sheet,
        arguments.table,
    )
    .await?;
    let done = jobs
        .iter()
        .filter(|job| job.state == JobState::Done)
        .count();
    let folder = super::config::outputs_folder(context).await?;
    let answer = json!({
        "batch": submitted.batch,
        "outputs": folder,
        "jobs": jobs,
        "contact_sheet": extras.sheet,
        "table": extras.table,
    });
    context.print(&answer, || {
        let mut lines = vec![format!(
            "{done} of {} pictures are in {}",
            jobs.len(),
            folder.display()
        )];
        if let Some(sheet) = &extras.sheet {
            lines.push(format!("Contact sheet: {}", sheet.display()));
        }
        if let Some(table) = &extras.table {
            lines.push(format!("Results table: {}", table.display()));
        }
        lines.join("\n")
    });
    Ok(exit_code(&jobs))
}

/// What was made of a finished batch besides its pictures.
struct Extras {
    sheet: Option<PathBuf>,
    table: Option<PathBuf>,
}

async fn extras(
    context: &Context,
    batch: BatchId,
    with_sheet: bool,
    with_table: bool,
) -> Result<Extras, Refusal> {
    let mut extras = Extras {
        sheet: None,
        table: None,
    };
    if with_sheet {
        let sheet: Result<ContactSheet, Refusal> = context
            .connection
            .call("batches_contact_sheet", json!({ "id": batch }))
            .await;
        match sheet {
            Ok(sheet) => extras.sheet = Some(sheet.path.into()),
            // A batch without a single picture has no sheet; its failures were told already.
            Err(Refusal::Problems(problems)) => {
                context.tell(format!("no contact sheet: {problems}"))
            }
            Err(refusal) => return Err(refusal),
        }
    }
    if with_table {
        let table: TableFile = context
            .connection
            .call("batches_table", json!({ "id": batch, "format": "csv" }))
            .await?;
        let path = super::config::outputs_folder(context)
            .await?
            .join(&table.name);
        super::write_file(&path, table.text.as_bytes())?;
        extras.table = Some(path);
    }
    Ok(extras)
}

async fn check(context: &Context, input: &BulkInput) -> Result<u8, Refusal> {
    let check: BulkCheck = context.connection.call("bulk_check", input).await?;
    tell_notes(context, &check.notes);
    if let Some(problems) = Problems::from_list(check.problems.clone()) {
        return Err(problems.into());
    }
    context.print(&check, || {
        let rows: Vec<Vec<String>> = check
            .rows
            .iter()
            .take(20)
            .map(|row| {
                vec![
                    row.line.to_string(),
                    row.pictures.to_string(),
                    text::shorten(row.output.as_deref().unwrap_or_default(), 40),
                    text::shorten(&row.request.prompt, 80),
                ]
            })
            .collect();
        let more = check.total_rows.saturating_sub(rows.len() as u64);
        let more = if more > 0 {
            format!("\n… and {more} more rows")
        } else {
            String::new()
        };
        let estimate = check
            .estimate
            .as_ref()
            .map(describe_estimate)
            .unwrap_or_default();
        format!(
            "{}{more}\n{} rows, {} pictures: {estimate}",
            text::table(&["line", "pictures", "file", "prompt"], &rows),
            check.total_rows,
            check.pictures
        )
    });
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_goes_over_the_wire_as_the_command_reads_it() {
        let input = BulkInput {
            text: "a".into(),
            name: None,
            format: Some(ListFormat::Tsv),
            defaults: Default::default(),
            combine: Combine::Zip,
            pictures: BTreeMap::new(),
            rows_limit: None,
        };
        let wire = serde_json::to_value(&input).unwrap();
        assert_eq!(wire["format"], "tsv");
        assert_eq!(wire["combine"], "zip");
        assert_eq!(serde_json::from_value::<BulkInput>(wire).unwrap(), input);
    }
}
