//! Names of files from a template such as `{date}/{prompt(50)}-{seed}`, safe for every file system.
//!
//! | variable | value | format in parentheses |
//! |---|---|---|
//! | `{date}` `{time}` | day, time of day | strftime (`%Y/%m`) or letters (`YYYY-MM-DD_HH-mm-ss`) |
//! | `{seed}` `{line}` `{copy}` `{width}` `{height}` `{steps}` | the number; copies count from 1 | digits, filled with zeros |
//! | `{prompt}` `{model}` `{name}` `{batch}` | words; the list's name; a random word per batch | letters at most |
//!
//! `/` in the template (and in a date's format) makes folders; in values it never does. `{{` and
//! `}}` are braces. Not here: making names unique, which the queue does when it stores a result.

use jiff::{Zoned, fmt::strtime};

use crate::suggest::did_you_mean;

/// Longest part of a path, in bytes: file systems allow 255, and an ending and a number follow.
const PART_BYTES: usize = 180;
/// Longest stem in bytes, folders included.
const STEM_BYTES: usize = 400;
/// Deepest folder.
const MAX_PARTS: usize = 8;
/// Letters of a prompt when the template names no number.
const PROMPT_CHARS: usize = 60;
/// Longest template in characters.
const TEMPLATE_CHARS: usize = 500;

const VARIABLES: [&str; 12] = [
    "date", "time", "seed", "prompt", "model", "line", "copy", "width", "height", "steps", "batch",
    "name",
];

/// Names that Windows keeps for devices, with any ending.
const RESERVED: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8",
    "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Date(String),
    Number {
        variable: &'static str,
        digits: usize,
    },
    Words {
        variable: &'static str,
        letters: usize,
    },
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`, or the other way round.
    #[error("it has a brace without its partner")]
    UnbalancedBrace,
    /// No such variable.
    #[error("it has the unknown variable {{{name}}}.{suggestion}")]
    UnknownVariable {
        /// What stands between the braces.
        name: String,
        /// "Did you mean", or nothing.
        suggestion: String,
    },
    /// The parentheses hold nothing that the variable understands.
    #[error("{{{name}({format})}} has a format that {{{name}}} does not understand")]
    BadFormat {
        /// The variable.
        name: String,
        /// What stands between the parentheses.
        format: String,
    },
    /// Longer than any name can be.
    #[error("it has more than {TEMPLATE_CHARS} characters")]
    TooLong,
}

/// What the variables stand for.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// Date and time.
    pub now: &'a Zoned,
    /// Seed of the picture.
    pub seed: u64,
    /// Its prompt.
    pub prompt: &'a str,
    /// Its model's id.
    pub model: &'a str,
    /// Its line in the list; 0 without a list.
    pub line: u32,
    /// Which copy it is, from 1.
    pub copy: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Random word of its batch.
    pub batch: &'a str,
    /// Name of its list without ending; empty without a list.
    pub name: &'a str,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Unknown variables and formats, unbalanced braces, excessive length.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.chars().count() > TEMPLATE_CHARS {
            return Err(TemplateError::TooLong);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else {
                let inside = brace.strip_prefix('{');
                let (variable, after) = inside
                    .and_then(|inside| inside.split_once('}'))
                    .ok_or(TemplateError::UnbalancedBrace)?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::parse(variable)?);
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The path of a file below the outputs folder, with `/` between its parts and without an
    /// ending. Always at least one part, each of them harmless.
    pub fn expand(&self, names: &Names<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            part.write(names, &mut text);
        }
        make_safe(&text)
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let (name, format) = match text.split_once('(') {
            Some((name, rest)) => match rest.strip_suffix(')') {
                Some(format) => (name.trim(), Some(format)),
                None => (text, None),
            },
            None => (text.trim(), None),
        };
        let Some(variable) = VARIABLES.into_iter().find(|known| *known == name) else {
            return Err(TemplateError::UnknownVariable {
                name: name.to_owned(),
                suggestion: did_you_mean(name, VARIABLES),
            });
        };
        let bad_format = || TemplateError::BadFormat {
            name: name.to_owned(),
            format: format.unwrap_or_default().to_owned(),
        };
        let number = |most: usize, default: usize| match format {
            None => Ok(default),
            Some(digits) => digits
                .trim()
                .parse()
                .ok()
                .filter(|count| (1..=most).contains(count))
                .ok_or_else(bad_format),
        };
        match variable {
            "date" | "time" => {
                let default = if variable == "date" {
                    "%Y-%m-%d"
                } else {
                    "%H-%M-%S"
                };
                let pattern = to_strftime(format.unwrap_or(default));
                let sample = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0);
                match strtime::format(&pattern, sample) {
                    Ok(_) => Ok(Part::Date(pattern)),
                    Err(_) => Err(bad_format()),
                }
            }
            "prompt" => Ok(Part::Words {
                variable,
                letters: number(200, PROMPT_CHARS)?,
            }),
            "model" | "name" | "batch" => Ok(Part::Words {
                variable,
                letters: number(200, 80)?,
            }),
            _ => Ok(Part::Number {
                variable,
                digits: number(20, 1)?,
            }),
        }
    }

    fn write(&self, names: &Names<'_>, text: &mut String) {
        match self {
            Part::Text(literal) => text.push_str(literal),
            Part::Date(pattern) => {
                // Checked when the template was read, against the same kind of value.
                if let Ok(date) = strtime::format(pattern, names.now.datetime()) {
                    text.push_str(&date);
                }
            }
            Part::Number { variable, digits } => {
                let value = match *variable {
                    "seed" => names.seed,
                    "line" => names.line.into(),
                    "copy" => names.copy.into(),
                    "width" => names.width.into(),
                    "height" => names.height.into(),
                    _ => names.steps.into(),
                };
                text.push_str(&format!("{value:0digits$}"));
            }
            Part::Words { variable, letters } => {
                let value = match *variable {
                    "prompt" => to_words(names.prompt),
                    "model" => to_words(names.model),
                    "batch" => to_words(names.batch),
                    _ => to_words(names.name),
                };
                text.push_str(cut(&value, *letters));
            }
        }
    }
}

/// Letters such as `YYYY-MM-DD_HH-mm-ss` as a strftime pattern; one of those is left as it is.
fn to_strftime(format: &str) -> String {
    if format.contains('%') {
        return format.to_owned();
    }
    [
        ("YYYY", "%Y"),
        ("YY", "%y"),
        ("MM", "%m"),
        ("DD", "%d"),
        ("HH", "%H"),
        ("hh", "%H"),
        ("mm", "%M"),
        ("ss", "%S"),
    ]
    .into_iter()
    .fold(format.to_owned(), |text, (letters, code)| {
        text.replace(letters, code)
    })
}

/// A text's letters and digits, with `_` for what stands between them.
pub fn to_words(text: &str) -> String {
    let mut words = String::new();
    for letter in text.chars() {
        let follows_letter = words.ends_with(char::is_alphanumeric);
        if letter.is_alphanumeric() || (follows_letter && matches!(letter, '-' | '.')) {
            words.push(letter);
        } else if !words.is_empty() && !words.ends_with('_') {
            words.push('_');
        }
    }
    words.trim_end_matches(['_', '.', '-']).to_owned()
}

/// At most so many letters, cut between words where that costs little.
fn cut(words: &str, letters: usize) -> &str {
    let Some((end, _)) = words.char_indices().nth(letters) else {
        return words;
    };
    let cut = &words[..end];
    match cut.rfind('_') {
        Some(gap) if gap > end / 2 && !words[end..].starts_with('_') => &cut[..gap],
        _ => cut.trim_end_matches(['_', '.', '-']),
    }
}

/// Any text as a relative path that stays below its folder on every file system.
fn make_safe(text: &str) -> String {
    let mut stem = String::new();
    let parts = text.split(['/', '\\']).map(make_part_safe);
    for part in parts.filter(|part| !part.is_empty()).take(MAX_PARTS) {
        if stem.len() + part.len() + 1 > STEM_BYTES {
            break;
        }
        if !stem.is_empty() {
            stem.push('/');
        }
        stem.push_str(&part);
    }
    if stem.is_empty() {
        stem.push_str("image");
    }
    stem
}

fn make_part_safe(part: &str) -> String {
    let clean: String = part
        .chars()
        .filter(|letter| !is_invisible(*letter))
        .map(|letter| match letter {
            '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
            letter if letter.is_whitespace() => ' ',
            letter => letter,
        })
        .collect();
    let mut clean = clean.trim_matches([' ', '.']);
    if let Some((end, _)) = clean
        .char_indices()
        .find(|(at, letter)| at + letter.len_utf8() > PART_BYTES)
    {
        clean = clean[..end].trim_end_matches([' ', '.']);
    }
    let base = clean.split('.').next().unwrap_or_default().trim_end();
    if RESERVED.iter().any(|name| base.eq_ignore_ascii_case(name)) {
        return format!("_{clean}");
    }
    // A leading hyphen would be read as an option by other programs.
    match clean.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => clean.to_owned(),
    }
}

/// Control characters, and those that change the direction of text or take no room.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-03-04T05:06:07+00:00[UTC]".parse().unwrap()
    }

    fn expand_with(template: &str, prompt: &str, name: &str) -> String {
        let now = now();
        Template::parse(template).unwrap().expand(&Names {
            now: &now,
            seed: 42,
            prompt,
            model: "flux-schnell",
            line: 7,
            copy: 2,
            width: 320,
            height: 192,
            steps: 4,
            batch: "a1b2c3d4",
            name,
        })
    }

    fn expand(template: &str) -> String {
        expand_with(template, "A red fox, in the snow!", "animals")
    }

    #[test]
    fn variables_and_their_formats() {
        for (template, expected) in [
            (
                "{date}/{prompt(50)}-{seed}",
                "2026-03-04/A_red_fox_in_the_snow-42",
            ),
            ("{date(%Y/%m)}/{time}", "2026/03/05-06-07"),
            (
                "{date(YYYY-MM-DD_HH-mm-ss)}_{seed(6)}",
                "2026-03-04_05-06-07_000042",
            ),
            ("{line(4)}.{copy}-{model}", "0007.2-flux-schnell"),
            (
                "{name}_{batch}_{width}x{height}_{steps}",
                "animals_a1b2c3d4_320x192_4",
            ),
            ("{prompt(9)}", "A_red_fox"),
            ("{prompt(12)}", "A_red_fox_in"),
            ("{prompt(11)}", "A_red_fox"),
            ("a{{b}}c", "a{b}c"),
            ("", "image"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(template), expected, "{template}");
        }
    }

    #[test]
    fn bad_templates_say_why() {
        for (template, expected) in [
            ("{sed}", "Did you mean \"seed\"?"),
            ("{unknown}", "unknown variable {unknown}"),
            ("{seed", "brace"),
            ("seed}", "brace"),
            ("{seed(x)}", "format"),
            ("{seed(0)}", "format"),
            ("{seed(99)}", "format"),
            ("{date(%Q)}", "format"),
            ("{prompt(}", "unknown variable"),
        ] {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
        assert_eq!(
            Template::parse(&"x".repeat(501)),
            Err(TemplateError::TooLong)
        );
    }

    #[test]
    fn no_value_leaves_the_outputs_folder_or_breaks_a_file_system() {
        let hostile = [
            "../../etc/passwd",
            "..",
            "/etc/passwd",
            "C:\\Windows\\system32",
            "con",
            "CON.txt",
            "lpt1.png",
            "nul ",
            "a\0b",
            "a\nb",
            "trailing. ",
            ".hidden",
            ".kinora-x.part",
            "-rf",
            "a\u{202e}gnp.exe",
            "?*<>|\":",
            "   ",
            "~/.ssh/id",
            "日本語のプロンプト",
            &"x".repeat(5_000),
            &"é/".repeat(500),
        ];
        for template in [
            "{prompt(200)}",
            "{name(200)}/{prompt}",
            "../{prompt}/..//{seed}",
        ] {
            for value in hostile {
                check_safe(&expand_with(template, value, value));
            }
        }
        // Literals of a template are no safer than values.
        for literal in hostile
            .iter()
            .filter(|text| text.chars().count() <= TEMPLATE_CHARS)
        {
            check_safe(&expand(literal));
        }
        assert_eq!(
            expand_with("{prompt}", "日本語 プロンプト", ""),
            "日本語_プロンプト"
        );
    }

    fn check_safe(stem: &str) {
        assert!(!stem.is_empty() && stem.len() <= STEM_BYTES, "{stem:?}");
        assert!(!stem.starts_with('/') && !stem.contains('\\'), "{stem:?}");
        for part in stem.split('/') {
            assert!(!part.is_empty() && part.len() <= PART_BYTES + 1, "{stem:?}");
            assert!(!part.starts_with(['.', '-', ' ']), "{stem:?}");
            assert!(!part.ends_with(['.', ' ']), "{stem:?}");
            assert!(
                !part.contains(['<', '>', ':', '"', '|', '?', '*']),
                "{stem:?}"
            );
            assert!(!part.chars().any(is_invisible), "{stem:?}");
            let base = part.split('.').next().unwrap().to_uppercase();
            assert!(!RESERVED.contains(&base.as_str()), "{stem:?}");
        }
    }
}
