//! Requests of a list become plans, one per picture, in the order of the list. What is wrong is
//! said under the column that it comes from.

use std::collections::{HashMap, HashSet};

use kinora_core::{Plan, Priority, Problem};

use super::{
    columns::Column,
    expand::Entry,
    table::{MAX_ROWS, Table},
};
use crate::{
    jobs::Note,
    resolve::{Context, Place, resolve},
};

/// Notes that a list may have; more would say the same again.
const MAX_NOTES: usize = 100;

/// A picture of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// What to do.
    pub plan: Plan,
    /// Line of the list.
    pub line: u32,
    /// Which picture of its line it is, from 0.
    pub copy: u32,
    /// Who goes first.
    pub priority: Priority,
}

/// A list with everything decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// Every picture, in the order of the list.
    pub pictures: Vec<Picture>,
    /// For each entry, how many pictures it makes, and the place of its first one.
    pub entries: Vec<(u32, usize)>,
    /// What was decided differently than asked.
    pub notes: Vec<Note>,
}

/// Resolves every entry. What is wrong is added to `problems`, under the column that it is about;
/// what comes from the defaults is said once, without a line.
pub fn plan(
    entries: &[Entry],
    table: &Table,
    list: &str,
    batch: &str,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
) -> Planned {
    let mut planned = Planned::default();
    let mut said = HashSet::new();
    let mut copies_of_line: HashMap<u32, u32> = HashMap::new();
    for entry in entries {
        let copies = copies_of_line.entry(entry.line).or_default();
        let place = Place {
            line: Some(entry.line),
            first_copy: *copies,
            list,
            batch,
        };
        let resolved = match resolve(&entry.request, place, context) {
            Ok(resolved) => resolved,
            Err(found) => {
                for mut problem in found {
                    let field = problem.field.as_deref().unwrap_or_default();
                    problem.column = heading_about(table, field);
                    // The prompt belongs to the row, with a column of its own or not.
                    if problem.column.is_none() && field != "prompt" {
                        problem.line = None;
                    }
                    let is_new = said.insert((problem.line, problem.message.clone()));
                    if is_new {
                        problems.push(problem);
                    }
                }
                continue;
            }
        };
        let count = u32::try_from(resolved.plans.len()).unwrap_or(u32::MAX);
        planned.entries.push((count, planned.pictures.len()));
        for (plan, copy) in resolved.plans.into_iter().zip(*copies..) {
            planned.pictures.push(Picture {
                plan,
                line: entry.line,
                copy,
                priority: entry.request.priority.unwrap_or(Priority::Bulk),
            });
        }
        *copies = copies.saturating_add(count);
        // Combinations add up; the caller says that there are too many.
        if planned.pictures.len() > 2 * MAX_ROWS {
            break;
        }
        for mut note in resolved.notes {
            if planned.notes.len() >= MAX_NOTES {
                break;
            }
            if heading_about(table, note.field.as_deref().unwrap_or_default()).is_none() {
                note.line = None;
            }
            if !planned.notes.contains(&note) {
                planned.notes.push(note);
            }
        }
    }
    planned
}

/// The heading that a member of the request comes from.
fn heading_about(table: &Table, field: &str) -> Option<String> {
    table
        .columns
        .iter()
        .find(|heading| heading.column != Column::Comment && heading.column.is_about(field))
        .map(|heading| heading.text.clone())
}
