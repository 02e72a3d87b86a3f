//! Rows become requests: variables are put into prompts and names, several values of a row are
//! combined, cells become members of the request.

use kinora_core::{Code, Expansion, Priority, Problem, Request};

use super::{
    Combine, ListFormat,
    columns::Column,
    table::{MAX_ROWS, Row, Table, check_unused},
    template::Template,
};
use crate::naming::to_words;

/// One combination of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Line of the list.
    pub line: u32,
    /// What it asks for.
    pub request: Request,
}

/// Turns a table into requests. What is wrong is added to `problems`; what can be read is returned
/// all the same.
pub fn expand(
    table: &Table,
    defaults: &Request,
    output_template: &str,
    combine: Combine,
    problems: &mut Vec<Problem>,
) -> Vec<Entry> {
    let fallback = Fallback {
        request: defaults,
        prompt: read_text(defaults, &defaults.prompt),
        negative: read_text(defaults, &defaults.negative_prompt),
        output: defaults
            .output_name
            .as_deref()
            .filter(|name| !name.trim().is_empty()),
        settings_output: output_template,
    };
    let names: Vec<&str> = table
        .columns
        .iter()
        .filter_map(|heading| match &heading.column {
            Column::Variable(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut used = vec![false; names.len()];
    let mut entries = Vec::new();
    for row in &table.rows {
        let found = problems.len();
        let row = ReadRow::new(table, row, &fallback);
        row.mark_used(&names, &mut used);
        row.check_holes(&names, problems);
        row.expand(combine, problems, found, &mut entries);
        if entries.len() > MAX_ROWS {
            problems.push(Problem::in_field(
                "text",
                format!("the list makes more than {MAX_ROWS} rows once its values are combined"),
                "Split it into several lists, or combine fewer values.",
            ));
            entries.clear();
            break;
        }
    }
    let is_used = |name: &str| {
        let place = names.iter().position(|known| *known == name);
        place.is_some_and(|place| used[place])
    };
    check_unused(table, is_used, problems);
    entries
}

/// A prompt of the list. Its plain choices are combined like cells with several values, unless the
/// list says how choices are made.
fn read_text(defaults: &Request, text: &str) -> Template {
    match defaults.expansion {
        None | Some(Expansion::Combinations) => Template::parse(text),
        Some(Expansion::Random | Expansion::Off) => Template::without_choices(text),
    }
}

/// What empty cells mean.
struct Fallback<'a> {
    request: &'a Request,
    prompt: Template,
    negative: Template,
    output: Option<&'a str>,
    settings_output: &'a str,
}

/// A row with its texts read.
struct ReadRow<'a> {
    table: &'a Table,
    row: &'a Row,
    request: &'a Request,
    prompt: Template,
    negative: Template,
    /// The row's own naming template, or that of the defaults; None: that of the settings.
    output: Option<&'a str>,
    settings_output: &'a str,
}

/// Where the picks of one combination go.
#[derive(Clone, Copy)]
enum Axis {
    /// The values of the cell in this column.
    Cell(usize),
    /// A choice in the prompt.
    Prompt,
    /// A choice in the negative prompt.
    Negative,
}

impl<'a> ReadRow<'a> {
    fn new(table: &'a Table, row: &'a Row, fallback: &Fallback<'a>) -> Self {
        let text = |column: Column| {
            let place = table
                .columns
                .iter()
                .position(|heading| heading.column == column)?;
            let text = row.cells.get(place)?.first()?.as_str();
            (!text.trim().is_empty()).then_some(text)
        };
        Self {
            table,
            row,
            request: fallback.request,
            prompt: text(Column::Prompt).map_or_else(
                || fallback.prompt.clone(),
                |text| read_text(fallback.request, text),
            ),
            negative: text(Column::Negative).map_or_else(
                || fallback.negative.clone(),
                |text| read_text(fallback.request, text),
            ),
            output: text(Column::Output).or(fallback.output),
            settings_output: fallback.settings_output,
        }
    }

    fn output_template(&self) -> Template {
        Template::parse(self.output.unwrap_or(self.settings_output))
    }

    fn mark_used(&self, names: &[&str], used: &mut [bool]) {
        let output = self.output_template();
        let texts = [&self.prompt, &self.negative, &output];
        for name in texts.into_iter().flat_map(Template::variables) {
            if let Some(place) = names.iter().position(|known| *known == name) {
                used[place] = true;
            }
        }
    }

    /// Names the variables that no column fills. A plain list has no columns, so there they are
    /// text; names of files have variables of their own and are checked where those are known.
    fn check_holes(&self, names: &[&str], problems: &mut Vec<Problem>) {
        if self.table.format == Some(ListFormat::Lines) {
            return;
        }
        for (template, column) in [
            (&self.prompt, Column::Prompt),
            (&self.negative, Column::Negative),
        ] {
            for name in template.variables().filter(|name| !names.contains(name)) {
                let suggestion = crate::suggest::did_you_mean(name, names.iter().copied());
                let mut problem = Problem::new(
                    Code::InvalidInput,
                    format!("{{{name}}} has no column"),
                    format!(
                        "Add the column, or write {{{{{name}}}}} for plain braces.{suggestion}"
                    ),
                );
                problem.column = self.heading_of(&column);
                problems.push(problem.at_line(self.row.line));
            }
        }
    }

    fn heading_of(&self, column: &Column) -> Option<String> {
        let mut headings = self.table.columns.iter();
        headings
            .find(|heading| heading.column == *column)
            .map(|heading| heading.text.clone())
    }

    /// The parts of the row with more than one value, leftmost first, with their lengths.
    fn axes(&self) -> Vec<(Axis, usize)> {
        let mut axes = Vec::new();
        let mut seen = [false; 2];
        let choices = |template: &Template, axis: Axis| -> Vec<(Axis, usize)> {
            template
                .choices()
                .map(|options| (axis, options.len()))
                .collect()
        };
        for (place, heading) in self.table.columns.iter().enumerate() {
            match heading.column {
                Column::Prompt => {
                    seen[0] = true;
                    axes.extend(choices(&self.prompt, Axis::Prompt));
                }
                Column::Negative => {
                    seen[1] = true;
                    axes.extend(choices(&self.negative, Axis::Negative));
                }
                _ => {
                    let length = self.row.cells.get(place).map_or(0, Vec::len);
                    if length > 1 {
                        axes.push((Axis::Cell(place), length));
                    }
                }
            }
        }
        if !seen[0] {
            axes.extend(choices(&self.prompt, Axis::Prompt));
        }
        if !seen[1] {
            axes.extend(choices(&self.negative, Axis::Negative));
        }
        axes
    }

    /// Adds an entry per combination; only one when something is wrong with the row, so that what
    /// else is wrong with it can be said as well.
    fn expand(
        &self,
        combine: Combine,
        problems: &mut Vec<Problem>,
        found: usize,
        entries: &mut Vec<Entry>,
    ) {
        let axes = self.axes();
        let lengths: Vec<usize> = axes.iter().map(|(_, length)| *length).collect();
        let Some(combinations) = combinations(&lengths, combine) else {
            let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
            let problem = Problem::new(
                Code::InvalidInput,
                format!("the row has lists of {} values", lengths.join(" and ")),
                "Make them equally long, or combine them as a product.",
            );
            problems.push(problem.at_line(self.row.line));
            return;
        };
        // One more than the limit is enough for the caller to see that it is passed.
        for index in 0..combinations.count.min(MAX_ROWS + 1) {
            let request = self.fill(&axes, &combinations.picks(index), problems);
            entries.push(Entry {
                line: self.row.line,
                request,
            });
            // One combination of a row with problems is enough to find its others.
            if problems.len() > found || entries.len() > MAX_ROWS {
                return;
            }
        }
    }

    fn fill(
        &self,
        axes: &[(Axis, usize)],
        picks: &[usize],
        problems: &mut Vec<Problem>,
    ) -> Request {
        let pick_of = |place: usize| {
            let found = axes.iter().zip(picks);
            found
                .filter_map(|((axis, _), pick)| match axis {
                    Axis::Cell(cell) if *cell == place => Some(*pick),
                    _ => None,
                })
                .next()
                .unwrap_or(0)
        };
        let value_at = |place: usize| -> Option<&str> {
            let values = self.row.cells.get(place)?;
            values.get(pick_of(place)).map(String::as_str)
        };
        let variable = |name: &str| {
            let place = self.table.columns.iter().position(
                |heading| matches!(&heading.column, Column::Variable(known) if known == name),
            )?;
            Some(value_at(place).unwrap_or_default().to_owned())
        };
        let choices = |wanted: fn(&Axis) -> bool| {
            let picks: Vec<usize> = axes
                .iter()
                .zip(picks)
                .filter(|((axis, _), _)| wanted(axis))
                .map(|(_, pick)| *pick)
                .collect();
            picks.into_iter()
        };
        let mut request = self.request.clone();
        let is_read = request.expansion != Some(Expansion::Off);
        request.prompt = self.prompt.fill(
            variable,
            choices(|axis| matches!(axis, Axis::Prompt)),
            is_read,
        );
        request.negative_prompt = self.negative.fill(
            variable,
            choices(|axis| matches!(axis, Axis::Negative)),
            is_read,
        );
        request.output_name = self.output_name(variable);
        request.priority = request.priority.or(Some(Priority::Bulk));
        request.copies = request.copies.or(Some(1));
        let headings = self.table.columns.iter().enumerate();
        let mut settings: Vec<_> = headings
            .filter_map(|(place, heading)| match heading.column {
                Column::Setting(setting) => Some((place, heading, setting)),
                _ => None,
            })
            .collect();
        settings.sort_by_key(|(_, _, setting)| setting.turn());
        for (place, heading, setting) in settings {
            let text = value_at(place).unwrap_or_default();
            if let Err(bad) = setting.apply(text, &mut request) {
                let message = bad.message(&shorten(text));
                let mut problem = Problem::in_field(&setting.field(), message, bad.hint());
                problem.column = Some(heading.text.clone());
                problems.push(problem.at_line(self.row.line));
            }
        }
        request
    }

    /// The row's naming template with its columns put in, so that only the variables of naming
    /// are left; None where no column is used and the settings decide.
    fn output_name(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        let text = self.output.unwrap_or(self.settings_output);
        let mut name = String::new();
        let mut rest = text;
        let mut is_changed = false;
        while let Some(at) = rest.find('{') {
            name.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                name.push_str("{{");
                rest = after;
                continue;
            }
            let hole = rest[1..].split_once('}');
            let value = hole.and_then(|(inside, after)| {
                Some((variable(&super::columns::normalize(inside))?, after))
            });
            match value {
                Some((value, after)) => {
                    name.push_str(&to_words(&value));
                    rest = after;
                    is_changed = true;
                }
                None => {
                    name.push('{');
                    rest = &rest[1..];
                }
            }
        }
        name.push_str(rest);
        match self.output {
            Some(_) => Some(name),
            None => is_changed.then_some(name),
        }
    }
}

fn shorten(text: &str) -> String {
    let mut letters = text.chars();
    let start: String = letters.by_ref().take(40).collect();
    if letters.next().is_some() {
        format!("{start}…")
    } else {
        start
    }
}

/// Which value of each axis a combination takes, in order, the last axis running fastest.
/// None when the lists of a zip differ in length.
fn combinations(lengths: &[usize], combine: Combine) -> Option<Combinations> {
    let count = match combine {
        Combine::Product => lengths
            .iter()
            .try_fold(1_usize, |count, length| count.checked_mul(*length))
            .unwrap_or(usize::MAX),
        Combine::Zip => {
            let longest = lengths.iter().copied().max().unwrap_or(1);
            if lengths
                .iter()
                .any(|length| *length != longest && *length != 1)
            {
                return None;
            }
            longest
        }
    };
    Some(Combinations {
        lengths: lengths.to_vec(),
        combine,
        count,
    })
}

/// The combinations of one row.
#[derive(Clone, Debug)]
struct Combinations {
    lengths: Vec<usize>,
    combine: Combine,
    /// How many there are.
    count: usize,
}

impl Combinations {
    /// The picks of one combination, one per axis.
    fn picks(&self, index: usize) -> Vec<usize> {
        match self.combine {
            Combine::Zip => self
                .lengths
                .iter()
                .map(|length| if *length == 1 { 0 } else { index })
                .collect(),
            Combine::Product => {
                let mut rest = index;
                let mut picks: Vec<usize> = self
                    .lengths
                    .iter()
                    .rev()
                    .map(|length| {
                        let pick = rest % length;
                        rest /= length;
                        pick
                    })
                    .collect();
                picks.reverse();
                picks
            }
        }
    }
}
