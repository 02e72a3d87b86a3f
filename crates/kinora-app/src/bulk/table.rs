//! A list as columns and rows, whichever way it was written. Nothing is decided here but where a
//! cell ends and which column it belongs to.

use kinora_core::{Code, Problem};
use serde_json::Value;

use super::{
    ListFormat,
    columns::{Column, Setting, known_headings},
    jsonl, separated,
    template::split_values,
};
use crate::suggest::did_you_mean;

/// Longest list in bytes.
pub const MAX_BYTES: usize = 50 * 1024 * 1024;
/// Most rows, before and after their values are combined.
pub const MAX_ROWS: usize = 100_000;
/// Most columns.
pub(super) const MAX_COLUMNS: usize = 200;

/// A list, read.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// How it was written.
    pub format: Option<ListFormat>,
    /// Headings with their meaning, in order.
    pub columns: Vec<Heading>,
    /// Rows in order.
    pub rows: Vec<Row>,
    /// Line of the headings; None where each row names its own columns.
    pub heading_line: Option<u32>,
}

/// A column and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// As it is written.
    pub text: String,
    /// What it sets.
    pub column: Column,
}

impl Table {
    /// Every cell that names a picture.
    pub fn pictures_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let is_picture = |heading: &Heading| match &heading.column {
            Column::Setting(setting) => setting.is_picture(),
            _ => false,
        };
        let places: Vec<bool> = self.columns.iter().map(is_picture).collect();
        self.rows
            .iter_mut()
            .flat_map(|row| row.cells.iter_mut().enumerate())
            .filter(move |(place, _)| places.get(*place).copied().unwrap_or(false))
            .flat_map(|(_, values)| values)
    }
}

/// One row. Its cells are in the order of the columns; missing ones are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Line of the list, from 1.
    pub line: u32,
    /// The values of each cell, at least one each where the cell is there.
    pub cells: Vec<Vec<String>>,
}

/// Reads a list. What is wrong is added to `problems`; what can be read is returned all the same.
pub fn read(
    text: &str,
    name: Option<&str>,
    format: Option<ListFormat>,
    problems: &mut Vec<Problem>,
) -> Table {
    if text.len() > MAX_BYTES {
        problems.push(Problem::in_field(
            "text",
            format!(
                "the list has {} bytes; at most {MAX_BYTES} are possible",
                text.len()
            ),
            "Split it into several lists.",
        ));
        return Table::default();
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = format.unwrap_or_else(|| sniff(text, name));
    let mut table = match format {
        ListFormat::Lines => read_lines(text),
        ListFormat::Csv => read_separated(text, find_separator(text), problems),
        ListFormat::Tsv => read_separated(text, '\t', problems),
        ListFormat::Jsonl => jsonl::read(text, problems),
    };
    table.format = Some(format);
    if table.rows.len() > MAX_ROWS {
        problems.push(Problem::in_field(
            "text",
            format!(
                "the list has {} rows; at most {MAX_ROWS} are possible",
                table.rows.len()
            ),
            "Split it into several lists.",
        ));
        table.rows.clear();
    }
    table
}

/// How a list is written, by the ending of its name, else by its first line.
pub fn sniff(text: &str, name: Option<&str>) -> ListFormat {
    let ending = name
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, ending)| ending.to_lowercase());
    match ending.as_deref() {
        Some("csv") => return ListFormat::Csv,
        Some("tsv" | "tab") => return ListFormat::Tsv,
        Some("jsonl" | "ndjson") => return ListFormat::Jsonl,
        _ => {}
    }
    let Some(first) = lines(text)
        .map(|(_, line)| line)
        .find(|line| is_content(line))
    else {
        return ListFormat::Lines;
    };
    if serde_json::from_str::<serde_json::Map<String, Value>>(first.trim()).is_ok() {
        return ListFormat::Jsonl;
    }
    let looks_like_headings = |separator: char| {
        let (records, _) = separated::read(first, separator);
        records.first().is_some_and(|record| {
            let columns = record.cells.iter().map(|cell| Column::from_heading(cell));
            let columns: Vec<Column> = columns.collect();
            columns.contains(&Column::Prompt)
                || (columns.len() > 1 && columns.iter().all(Column::is_known))
        })
    };
    if looks_like_headings('\t') && first.contains('\t') {
        ListFormat::Tsv
    } else if looks_like_headings(',') || looks_like_headings(';') {
        ListFormat::Csv
    } else {
        ListFormat::Lines
    }
}

/// The lines of a text with their numbers, whichever way they end.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut rest = Some(text);
    let mut number = 0_u32;
    std::iter::from_fn(move || {
        let text = rest?;
        number = number.saturating_add(1);
        let end = text.find(['\r', '\n']);
        let line = &text[..end.unwrap_or(text.len())];
        rest = end.map(|end| {
            let after = &text[end..];
            after.strip_prefix("\r\n").unwrap_or(&after[1..])
        });
        Some((number, line))
    })
}

pub(super) fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// Semicolons where the heading has them and no commas, as some spreadsheets write.
fn find_separator(text: &str) -> char {
    let first = lines(text)
        .map(|(_, line)| line)
        .find(|line| is_content(line));
    let first = first.unwrap_or_default();
    match (
        first.contains(','),
        first.contains(';'),
        first.contains('\t'),
    ) {
        (false, true, _) => ';',
        (false, false, true) => '\t',
        _ => ',',
    }
}

fn read_lines(text: &str) -> Table {
    let rows = lines(text)
        .filter(|(_, line)| is_content(line))
        .map(|(line, text)| {
            let text = text.trim();
            // A prompt that begins with # is written with a backslash before it.
            let prompt = text
                .strip_prefix('\\')
                .filter(|rest| rest.starts_with('#'))
                .unwrap_or(text);
            Row {
                line,
                cells: vec![vec![prompt.to_owned()]],
            }
        });
    Table {
        format: None,
        rows: rows.collect(),
        columns: vec![Heading {
            text: "prompt".to_owned(),
            column: Column::Prompt,
        }],
        heading_line: None,
    }
}

fn read_separated(text: &str, separator: char, problems: &mut Vec<Problem>) -> Table {
    let (records, errors) = separated::read(text, separator);
    for error in errors {
        let problem = Problem::new(
            Code::InvalidInput,
            error.to_string(),
            "Close it; a double quote inside a quoted cell is written twice.",
        );
        problems.push(problem.at_line(error.line()));
    }
    let mut records = records.into_iter();
    let Some(head) = records.next() else {
        return Table::default();
    };
    if head.cells.len() > MAX_COLUMNS {
        let message = format!("the heading has {} columns", head.cells.len());
        let hint = format!("Use at most {MAX_COLUMNS}.");
        problems.push(Problem::new(Code::InvalidInput, message, hint).at_line(head.line));
        return Table::default();
    }
    let mut columns: Vec<Heading> = head.cells.iter().map(|cell| Heading::new(cell)).collect();
    while columns.last().is_some_and(|last| last.text.is_empty()) {
        columns.pop();
    }
    check_headings(&columns, head.line, problems);
    let rows = records.filter_map(|record| {
        let mut cells = record.cells;
        if cells
            .iter()
            .skip(columns.len())
            .any(|cell| !cell.is_empty())
        {
            let problem = Problem::new(
                Code::InvalidInput,
                format!(
                    "the row has {} cells and the heading {}",
                    cells.len(),
                    columns.len()
                ),
                "Put a text that contains the separator between double quotes.",
            );
            problems.push(problem.at_line(record.line));
            // Which cell belongs where cannot be told.
            return None;
        }
        cells.truncate(columns.len());
        let cells = cells
            .iter()
            .zip(&columns)
            .map(|(cell, heading)| heading.split(cell));
        Some(Row {
            line: record.line,
            cells: cells.collect(),
        })
    });
    let rows = rows.collect();
    Table {
        format: None,
        columns,
        rows,
        heading_line: Some(head.line),
    }
}

pub(super) fn check_headings(columns: &[Heading], line: u32, problems: &mut Vec<Problem>) {
    let mut refuse = |text: &str, message: String, hint: String| {
        let mut problem = Problem::new(Code::InvalidInput, message, hint).at_line(line);
        problem.column = Some(text.to_owned());
        problems.push(problem);
    };
    for (index, heading) in columns.iter().enumerate() {
        if heading.text.is_empty() {
            let message = format!("column {} has no heading", index + 1);
            refuse(
                "",
                message,
                "Name it, or begin its name with # to leave it out.".to_owned(),
            );
        } else if heading.column != Column::Comment
            && columns[..index]
                .iter()
                .any(|other| other.column == heading.column)
        {
            let message = format!("there are two columns for \"{}\"", heading.text);
            refuse(&heading.text, message, "Keep one of them.".to_owned());
        }
    }
    let has = |setting| {
        columns
            .iter()
            .any(|heading| heading.column == Column::Setting(setting))
    };
    if has(Setting::Size) && (has(Setting::Width) || has(Setting::Height)) {
        let message = "there are columns for size and for width or height".to_owned();
        refuse(
            "size",
            message,
            "Keep size, or width and height.".to_owned(),
        );
    }
}

impl Heading {
    /// A heading as it is written.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.trim().to_owned(),
            column: Column::from_heading(text),
        }
    }

    /// The values of one of its cells.
    pub fn split(&self, cell: &str) -> Vec<String> {
        if self.column.has_values() {
            split_values(cell)
        } else {
            vec![cell.to_owned()]
        }
    }
}

/// Names the columns that set nothing and that no text uses.
pub fn check_unused(table: &Table, is_used: impl Fn(&str) -> bool, problems: &mut Vec<Problem>) {
    for heading in &table.columns {
        let Column::Variable(name) = &heading.column else {
            continue;
        };
        if name.is_empty() || is_used(name) {
            continue;
        }
        let mut problem = Problem::new(
            Code::InvalidInput,
            format!(
                "the column \"{}\" is not known, and no prompt uses {{{name}}}",
                heading.text
            ),
            format!(
                "Use {{{name}}} in a prompt, correct the heading, or begin it with # to leave it out.{}",
                did_you_mean(name, known_headings())
            ),
        );
        problem.line = table.heading_line;
        problem.column = Some(heading.text.clone());
        problems.push(problem);
    }
}
