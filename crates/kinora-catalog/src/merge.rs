//! From the text of `models.toml` files to entries: each file's tables are checked for their
//! names, later files change earlier ones value by value, and what results is read strictly.

use std::path::Path;

use toml::{Table, Value};

use crate::{entry::Entry, fault::Fault, rules};

/// Version of the files' form.
const VERSION: i64 = 1;

/// What the files amount to: entries in the order of their first appearance, and all that is
/// wrong. A faulty entry is left out.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub entries: Vec<Entry>,
    pub faults: Vec<Fault>,
}

/// Reads files in order; a later file may change entries of earlier ones. A change that makes an
/// entry faulty is not made.
pub(crate) fn read_entries<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Entries {
    let mut read = Entries::default();
    let mut tables: Vec<Table> = Vec::new();
    for (path, text) in files {
        let own = match split_file(path, text) {
            Ok(own) => own,
            Err(fault) => {
                read.faults.push(fault);
                continue;
            }
        };
        let mut seen: Vec<String> = Vec::new();
        for (index, changes) in own.into_iter().enumerate() {
            let Some(Value::String(id)) = changes.get("id") else {
                let fault = Fault::new(path, "it has no id, or one that is no text");
                let number = format!("number {}", index + 1);
                read.faults.push(fault.in_entry(&number).at_key("id"));
                continue;
            };
            let id = id.clone();
            if seen.contains(&id) {
                let fault = Fault::new(path, "the id occurs twice in this file");
                read.faults.push(fault.in_entry(&id));
                continue;
            }
            let known = read
                .entries
                .iter()
                .position(|entry| entry.id.as_str() == id);
            let mut table = known.map_or_else(Table::new, |known| tables[known].clone());
            merge(&mut table, changes);
            match (read_entry(table.clone()), known) {
                (Ok(entry), Some(known)) => {
                    read.entries[known] = entry;
                    tables[known] = table;
                }
                (Ok(entry), None) => {
                    read.entries.push(entry);
                    tables.push(table);
                }
                (Err((key, reason)), _) => {
                    let fault = Fault::new(path, reason);
                    read.faults.push(fault.in_entry(&id).at_key(&key));
                }
            }
            seen.push(id);
        }
    }
    read
}

/// The tables of a file's entries.
fn split_file(path: &Path, text: &str) -> Result<Vec<Table>, Fault> {
    let mut file: Table = text
        .parse()
        .map_err(|error: toml::de::Error| Fault::new(path, error.to_string().trim().to_owned()))?;
    match file.remove("version") {
        None | Some(Value::Integer(VERSION)) => {}
        Some(other) => {
            let reason =
                format!("{other} is a form that this program does not read; it reads {VERSION}");
            return Err(Fault::new(path, reason).at_key("version"));
        }
    }
    let models = file.remove("model");
    if let Some(key) = file.keys().next() {
        let reason = "unknown; a file holds version and [[model]] tables";
        return Err(Fault::new(path, reason).at_key(key));
    }
    match models {
        None => Ok(Vec::new()),
        Some(models) => models
            .try_into()
            .map_err(|_| Fault::new(path, "must be tables: [[model]]").at_key("model")),
    }
}

/// Puts `changes` over `base`: tables value by value, everything else as a whole.
fn merge(base: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(changes)) => merge(base, changes),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Reads one entry strictly; the error is its key and why.
fn read_entry(table: Table) -> Result<Entry, (String, String)> {
    let entry =
        serde_path_to_error::deserialize::<_, Entry>(Value::Table(table)).map_err(|error| {
            let key = error.path().to_string();
            let message = error.into_inner().to_string();
            let reason = message.lines().next().unwrap_or_default().to_owned();
            (key, reason)
        })?;
    rules::check(&entry).map_err(|(key, reason)| (key.to_owned(), reason))?;
    Ok(entry)
}
