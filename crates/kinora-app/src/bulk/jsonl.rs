//! JSON lines: every line names its own columns, lists are several values.

use std::collections::HashMap;

use kinora_core::{Code, Problem};
use serde_json::Value;

use super::table::{Heading, MAX_COLUMNS, Row, Table, check_headings, is_content, lines};

/// The rows of a text with one JSON object, or one text, per line. Columns are in the order in
/// which they first appear.
pub fn read(text: &str, problems: &mut Vec<Problem>) -> Table {
    let mut table = Table::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (line, text) in lines(text).filter(|(_, line)| is_content(line)) {
        match read_json_row(text, line, &mut table.columns, &mut places) {
            Ok(Some(row)) => table.rows.push(row),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    }
    let first_line = table.rows.first().map_or(1, |row| row.line);
    check_headings(&table.columns, first_line, problems);
    table
}

fn read_json_row(
    text: &str,
    line: u32,
    columns: &mut Vec<Heading>,
    places: &mut HashMap<String, usize>,
) -> Result<Option<Row>, Box<Problem>> {
    let refuse = |column: Option<&str>, message: String, hint: &str| {
        let mut problem = Problem::new(Code::InvalidInput, message, hint).at_line(line);
        problem.column = column.map(str::to_owned);
        Box::new(problem)
    };
    let members = match serde_json::from_str(text) {
        Ok(Value::Object(members)) => members,
        Ok(Value::String(prompt)) => {
            serde_json::Map::from_iter([("prompt".to_owned(), Value::String(prompt))])
        }
        Ok(_) => {
            let message = "the line is neither a JSON object nor a text".to_owned();
            return Err(refuse(None, message, "Write {\"prompt\": \"…\"}."));
        }
        Err(error) => {
            let message = format!("the line is not JSON: {error}");
            return Err(refuse(None, message, "Write one JSON object per line."));
        }
    };
    let mut cells: Vec<Vec<String>> = Vec::new();
    for (name, value) in &members {
        let hint = "Use a text, a number, or a list of those.";
        let values = match value {
            Value::Array(items) if !items.is_empty() => {
                items.iter().map(scalar).collect::<Option<Vec<String>>>()
            }
            Value::Array(_) => Some(vec![String::new()]),
            other => scalar(other).map(|text| vec![text]),
        };
        let Some(values) = values else {
            let message = format!("\"{name}\" is neither a text, a number nor a list of those");
            return Err(refuse(Some(name), message, hint));
        };
        let place = match places.get(name) {
            Some(place) => *place,
            None if columns.len() >= MAX_COLUMNS => {
                let message = format!("there are more than {MAX_COLUMNS} different names");
                return Err(refuse(Some(name), message, "Use fewer."));
            }
            None => {
                columns.push(Heading::new(name));
                places.insert(name.clone(), columns.len() - 1);
                columns.len() - 1
            }
        };
        if values.len() > 1 && !columns[place].column.has_values() {
            let message = format!("\"{name}\" cannot hold a list");
            return Err(refuse(
                Some(name),
                message,
                "Use a text; {a|b} in it is a choice.",
            ));
        }
        if cells.len() <= place {
            cells.resize(place + 1, Vec::new());
        }
        // JSON says itself where a value ends, so bars in its texts separate only in variables
        // that are written as one text.
        cells[place] = match (value, values.as_slice()) {
            (Value::String(_), [text]) => columns[place].split(text),
            _ => values,
        };
    }
    let is_empty = cells.iter().flatten().all(|value| value.trim().is_empty());
    Ok((!is_empty).then_some(Row { line, cells }))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
