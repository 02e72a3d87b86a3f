//! A text as a tree, with its wildcards put in.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use crate::{
    MAX_DEPTH, MAX_PICKS,
    combine::Table,
    error::{Fault, SyntaxError},
    library::{Library, check_name},
    scan::{Groups, Kind, MAX_FAULTS, Tag, is_escapable, scan},
};

/// What one weight of 1 is inside: weights are whole numbers of millionths.
const WEIGHT_UNIT: u64 = 1_000_000;
/// Largest weight.
const MAX_WEIGHT: u64 = 1_000_000;
/// Cells of the tables that count subsets, of one text: some megabytes.
const MAX_CELLS: usize = 1 << 20;
/// Largest bound of a range of numbers, decimals included.
const MAX_NUMBER: i64 = 1_000_000_000_000;

/// A prompt that was read: texts can be drawn from it, or all of its combinations listed.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub(crate) root: Sequence,
    text: String,
}

impl Prompt {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing to expand: it says itself, character by character.
    pub fn is_plain(&self) -> bool {
        match self.root.nodes.as_slice() {
            [] => self.text.is_empty(),
            [Node::Text(text)] => *text == self.text,
            _ => false,
        }
    }
}

/// Pieces in a row.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    pub nodes: Vec<Node>,
    /// Groups within groups in it, those of its wildcards included.
    pub depth: usize,
    /// Its number of combinations, once it was asked for.
    pub counted: OnceLock<u128>,
}

/// A piece of a prompt.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Pick(Arc<Pick>),
    /// Every number from `low` to `high`, in units of the last decimal.
    Number {
        low: i64,
        high: i64,
        decimals: u32,
    },
    Repeat {
        low: u32,
        high: u32,
        separator: String,
        body: Box<Sequence>,
    },
    Set {
        name: String,
        is_shown: bool,
        body: Box<Sequence>,
    },
    Get(String),
    /// Texts that stay in the prompt between marks: `[a|b]`, `[a:b:0.5]`.
    Marked {
        before: &'static str,
        separator: &'static str,
        after: String,
        parts: Vec<Sequence>,
    },
}

/// Several of some options.
#[derive(Debug)]
pub struct Pick {
    pub options: Arc<Options>,
    /// At least so many.
    pub low: u32,
    /// At most so many.
    pub high: u32,
    pub separator: String,
    /// Where more than one is picked: how many subsets there are.
    pub table: OnceLock<Table>,
}

/// What can be chosen from; shared by everything that uses a wildcard.
#[derive(Debug, Default)]
pub struct Options {
    pub bodies: Vec<Sequence>,
    /// Sums of the weights up to and with each option, in millionths.
    pub weights: Vec<u64>,
    /// Groups within groups in the deepest of them.
    pub depth: usize,
    /// Sums of the combinations up to and with each option, once they were asked for.
    pub counted: OnceLock<Vec<u128>>,
}

impl Options {
    pub fn new(options: Vec<(u64, Sequence)>) -> Self {
        let mut all = Self::default();
        let mut weight = 0_u64;
        for (own, body) in options.into_iter().filter(|(weight, _)| *weight > 0) {
            weight = weight.saturating_add(own);
            all.weights.push(weight);
            all.depth = all.depth.max(body.depth);
            all.bodies.push(body);
        }
        all
    }
}

impl Sequence {
    fn new(nodes: Vec<Node>) -> Self {
        let depth = nodes.iter().map(Node::depth).max().unwrap_or(0);
        Self {
            nodes,
            depth,
            counted: OnceLock::new(),
        }
    }
}

impl Node {
    fn depth(&self) -> usize {
        match self {
            Node::Text(_) | Node::Get(_) | Node::Number { .. } => 0,
            Node::Pick(pick) => 1 + pick.options.depth,
            Node::Repeat { body, .. } | Node::Set { body, .. } => 1 + body.depth,
            Node::Marked { parts, .. } => {
                1 + parts.iter().map(|part| part.depth).max().unwrap_or(0)
            }
        }
    }
}

/// What a text is part of while it is read.
#[derive(Debug, Default)]
pub struct Around {
    /// The wildcards that it is in, the outermost first.
    pub wildcards: Vec<String>,
    /// The groups that it is in.
    pub depth: usize,
    /// A circle, or too deep a nest, was found: the text is refused, whatever else it uses. What is
    /// not kept of the wildcards on the way would be read again and again.
    pub is_lost: bool,
}

/// Reads a text; wildcards come from `library`, or are left open where there is none.
pub fn parse(
    text: &str,
    library: Option<&Library>,
    around: &mut Around,
) -> Result<Prompt, Vec<SyntaxError>> {
    let groups = scan(text)?;
    let mut reader = Reader {
        text,
        groups,
        library,
        depth: around.depth,
        around,
        cells: 0,
        is_open: false,
        names: HashSet::new(),
        faults: Vec::new(),
    };
    let root = reader.sequence(0, text.len());
    if reader.faults.is_empty() {
        let text = text.to_owned();
        return Ok(Prompt { root, text });
    }
    reader.faults.sort_by_key(|fault| fault.at.offset);
    reader.faults.truncate(MAX_FAULTS);
    Err(reader.faults)
}

struct Reader<'a> {
    text: &'a str,
    groups: Groups,
    library: Option<&'a Library>,
    around: &'a mut Around,
    /// Groups around what is being read.
    depth: usize,
    cells: usize,
    /// Wildcards may set variables that the text does not.
    is_open: bool,
    names: HashSet<String>,
    faults: Vec<SyntaxError>,
}

impl Reader<'_> {
    fn fault(&mut self, fault: Fault, at: usize) {
        if self.faults.len() <= MAX_FAULTS {
            self.faults.push(SyntaxError::new(fault, self.text, at));
        }
    }

    /// The pieces between two places.
    fn sequence(&mut self, start: usize, end: usize) -> Sequence {
        let mut nodes = Vec::new();
        let mut literal = String::new();
        let mut square_end = 0;
        let mut at = start;
        while at < end {
            let Some(character) = self.text[at..end].chars().next() else {
                break;
            };
            let after = at + character.len_utf8();
            match character {
                '\\' => {
                    let next = self.text[after..end].chars().next();
                    // Between square brackets a bar that is no bar has to stay marked.
                    let is_kept = next == Some('|') && at < square_end;
                    if !next.is_some_and(is_escapable) || is_kept {
                        literal.push('\\');
                    }
                    literal.extend(next);
                    at = after + next.map_or(0, char::len_utf8);
                    continue;
                }
                '{' | '<' | '[' => {
                    let group = self.groups.at(at).cloned();
                    match group {
                        Some(group) if group.kind == Kind::Square => {
                            square_end = square_end.max(group.end);
                        }
                        Some(group) if group.kind != Kind::Braces => {
                            if !literal.is_empty() {
                                nodes.push(Node::Text(std::mem::take(&mut literal)));
                            }
                            nodes.extend(self.group(at, &group.kind, group.content, group.end));
                            at = group.end + 1;
                            continue;
                        }
                        _ => {}
                    }
                    literal.push(character);
                }
                other => literal.push(other),
            }
            at = after;
        }
        if !literal.is_empty() {
            nodes.push(Node::Text(literal));
        }
        Sequence::new(nodes)
    }

    fn group(&mut self, at: usize, kind: &Kind, start: usize, end: usize) -> Option<Node> {
        if self.depth >= MAX_DEPTH {
            self.around.is_lost = true;
            self.fault(Fault::TooDeep, at);
            return None;
        }
        self.depth += 1;
        let node = match kind {
            Kind::Choice => self.choice(at, start, end),
            Kind::Tag { tag, detail } => self.tag(at, *tag, detail.as_deref(), start, end),
            Kind::Braces | Kind::Square => None,
        };
        self.depth -= 1;
        node
    }

    /// `{2$$, $$a|3::b}`
    fn choice(&mut self, at: usize, mut start: usize, end: usize) -> Option<Node> {
        let mut picks = (1, 1);
        let mut separator = ", ".to_owned();
        let first = self.split(start, end, b"|").first().copied();
        let head_end = first.map_or(end, |(_, end)| end);
        if let Some(place) = self.find_picks(start, head_end) {
            let written = self.text[start..place].trim();
            let Some(read) = read_picks(written) else {
                self.fault(Fault::BadCount(written.to_owned()), start);
                return None;
            };
            picks = read;
            start = place + 2;
            if let Some(second) = self.find_picks(start, head_end) {
                separator = unescape(&self.text[start..second]);
                start = second + 2;
            }
        }
        let parts = self.split(start, end, b"|");
        let mut options = Vec::with_capacity(parts.len());
        for (from, to) in &parts {
            let (from, to) = self.trim(*from, *to);
            options.push(self.weighted(from, to)?);
        }
        // A wildcard or tag alone: the picks are among its lines.
        if let ([(_, body)], true) = (options.as_slice(), picks != (1, 1))
            && let [Node::Pick(inner)] = body.nodes.as_slice()
            && (inner.low, inner.high) == (1, 1)
        {
            let options = Arc::clone(&inner.options);
            return self.pick(at, options, picks, separator);
        }
        self.pick(at, Arc::new(Options::new(options)), picks, separator)
    }

    fn tag(
        &mut self,
        at: usize,
        tag: Tag,
        detail: Option<&str>,
        start: usize,
        end: usize,
    ) -> Option<Node> {
        match tag {
            Tag::Comment => None,
            Tag::Random => {
                let (picks, separator) = self.detail_picks(at, detail)?;
                let parts = self.split_list(start, end);
                let mut options = Vec::with_capacity(parts.len());
                for (from, to) in parts {
                    options.push(match read_number_range(&self.text[from..to]) {
                        Some(Ok(number)) => (WEIGHT_UNIT, Sequence::new(vec![number])),
                        Some(Err(fault)) => {
                            self.fault(fault, from);
                            return None;
                        }
                        None => self.weighted(from, to)?,
                    });
                }
                self.pick(at, Arc::new(Options::new(options)), picks, separator)
            }
            Tag::Wildcard => {
                let (picks, separator) = self.detail_picks(at, detail)?;
                let name = self.text[start..end].trim().to_owned();
                self.is_open = true;
                let options = self.wildcard(&name, start)?;
                self.pick(at, options, picks, separator)
            }
            Tag::Repeat => {
                let mut start = start;
                let written = match detail {
                    Some(detail) => detail.to_owned(),
                    None => {
                        let (from, to) = self.split(start, end, b",").first().copied()?;
                        start = (to + 1).min(end);
                        self.text[from..to].to_owned()
                    }
                };
                let (counted, separator) = match written.trim().strip_suffix(',') {
                    Some(counted) => (counted, ", "),
                    None => (written.trim(), " "),
                };
                let Some((low, high)) = read_picks(counted) else {
                    self.fault(Fault::BadRepeat, at);
                    return None;
                };
                let (start, end) = self.trim(start, end);
                Some(Node::Repeat {
                    low,
                    high: if high == u32::MAX { low } else { high },
                    separator: separator.to_owned(),
                    body: Box::new(self.sequence(start, end)),
                })
            }
            Tag::SetVariable => {
                let detail = detail.unwrap_or_default();
                let (name, shown) = detail.split_once(',').unwrap_or((detail, "true"));
                let name = self.variable_name(name, at)?;
                let (start, end) = self.trim(start, end);
                let body = Box::new(self.sequence(start, end));
                self.names.insert(name.clone());
                Some(Node::Set {
                    name,
                    is_shown: !shown.trim().eq_ignore_ascii_case("false"),
                    body,
                })
            }
            Tag::Variable => {
                let name = detail.unwrap_or(&self.text[start..end]).to_owned();
                let name = self.variable_name(&name, at)?;
                if !self.is_open && self.around.wildcards.is_empty() && !self.names.contains(&name)
                {
                    self.fault(Fault::UnknownVariable(name), at);
                    return None;
                }
                Some(Node::Get(name))
            }
            Tag::Alternate => {
                let parts = self.split_list(start, end);
                let parts = parts.into_iter().map(|(from, to)| self.sequence(from, to));
                Some(Node::Marked {
                    before: "[",
                    separator: "|",
                    after: "]".to_owned(),
                    parts: parts.collect(),
                })
            }
            Tag::Change => {
                let parts = self.split_list(start, end);
                let step = detail.map(str::trim).unwrap_or_default();
                let is_step = step.parse::<f32>().is_ok_and(|step| step >= 0.0)
                    && step
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || byte == b'.');
                if parts.len() != 2 || !is_step {
                    self.fault(Fault::BadChange, at);
                    return None;
                }
                let parts = parts.into_iter().map(|(from, to)| self.sequence(from, to));
                Some(Node::Marked {
                    before: "[",
                    separator: ":",
                    after: format!(":{step}]"),
                    parts: parts.collect(),
                })
            }
        }
    }

    /// `[2]`, `[1-3,]` behind a tag's name.
    fn detail_picks(&mut self, at: usize, detail: Option<&str>) -> Option<((u32, u32), String)> {
        let Some(detail) = detail else {
            return Some(((1, 1), " ".to_owned()));
        };
        let (written, separator) = match detail.trim().strip_suffix(',') {
            Some(written) => (written, ", "),
            None => (detail.trim(), " "),
        };
        match read_picks(written) {
            Some(picks) => Some((picks, separator.to_owned())),
            None => {
                self.fault(Fault::BadCount(detail.to_owned()), at);
                None
            }
        }
    }

    fn variable_name(&mut self, name: &str, at: usize) -> Option<String> {
        let name = name.trim();
        if check_name(name) && !name.contains('/') {
            return Some(name.to_owned());
        }
        self.fault(Fault::BadName(name.chars().take(60).collect()), at);
        None
    }

    fn wildcard(&mut self, name: &str, at: usize) -> Option<Arc<Options>> {
        if !check_name(name) {
            self.fault(Fault::BadName(name.chars().take(60).collect()), at);
            return None;
        }
        let Some(library) = self.library else {
            return Some(Arc::new(Options::new(vec![(
                WEIGHT_UNIT,
                Sequence::new(Vec::new()),
            )])));
        };
        if self.around.is_lost {
            return None;
        }
        if self.around.wildcards.iter().any(|outer| outer == name) {
            self.around.is_lost = true;
            self.fault(Fault::Cycle(name.to_owned()), at);
            return None;
        }
        let depth = std::mem::replace(&mut self.around.depth, self.depth);
        let options = library.options(name, self.around);
        self.around.depth = depth;
        match options {
            Ok(options) if self.depth + options.depth > MAX_DEPTH => {
                self.around.is_lost = true;
                self.fault(Fault::TooDeep, at);
                None
            }
            Ok(options) => Some(options),
            Err(errors) => {
                for mut error in errors {
                    // Of the wildcard as a whole: said where it is asked for.
                    if error.wildcard.is_none() {
                        error = SyntaxError::new(error.fault, self.text, at);
                    }
                    if self.faults.len() <= MAX_FAULTS {
                        self.faults.push(error);
                    }
                }
                None
            }
        }
    }

    /// An option with its weight.
    fn weighted(&mut self, start: usize, end: usize) -> Option<(u64, Sequence)> {
        let (weight, skipped) = match read_weight(&self.text[start..end]) {
            Ok(read) => read,
            Err(fault) => {
                self.fault(fault, start);
                return None;
            }
        };
        let (start, end) = self.trim(start + skipped, end);
        Some((weight, self.sequence(start, end)))
    }

    fn pick(
        &mut self,
        at: usize,
        options: Arc<Options>,
        (low, high): (u32, u32),
        separator: String,
    ) -> Option<Node> {
        let known = options.bodies.len();
        if known == 0 {
            self.fault(Fault::NoOptions, at);
            return None;
        }
        // What is left open while a list is written has no number of lines yet.
        let is_counted = self.library.is_some() || !self.is_open;
        if low as usize > known {
            if is_counted {
                let fault = Fault::TooManyPicks {
                    asked: low,
                    options: known,
                };
                self.fault(fault, at);
            }
            return None;
        }
        let high = u32::try_from(known).unwrap_or(u32::MAX).min(high);
        if high > MAX_PICKS {
            self.fault(Fault::BadCount(high.to_string()), at);
            return None;
        }
        if high > 1 {
            self.cells = self.cells.saturating_add(known * high as usize);
            if self.cells > MAX_CELLS {
                self.fault(Fault::TooMuchToCount, at);
                return None;
            }
        }
        Some(Node::Pick(Arc::new(Pick {
            options,
            low,
            high,
            separator,
            table: OnceLock::new(),
        })))
    }

    /// The place of a `$$` between two places, outside of groups.
    fn find_picks(&self, start: usize, end: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = start;
        while at + 1 < end {
            match bytes[at] {
                b'\\' => at += 1,
                b'$' if bytes[at + 1] == b'$' => return Some(at),
                b'{' | b'<' | b'[' => {
                    if let Some(group) = self.groups.at(at) {
                        at = group.end;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// The parts between separators, outside of groups. Round brackets keep commas together.
    fn split(&self, start: usize, end: usize, separator: &[u8]) -> Vec<(usize, usize)> {
        let is_comma = separator == b",";
        let (parts, is_paired) = self.split_with(start, end, separator, is_comma);
        if is_comma && !is_paired {
            return self.split_with(start, end, separator, false).0;
        }
        parts
    }

    fn split_with(
        &self,
        start: usize,
        end: usize,
        separator: &[u8],
        with_round: bool,
    ) -> (Vec<(usize, usize)>, bool) {
        let bytes = self.text.as_bytes();
        let mut parts = Vec::new();
        let (mut from, mut at, mut round) = (start, start, 0_usize);
        let mut is_paired = true;
        while at < end {
            match bytes[at] {
                b'\\' => at += 1,
                b'{' | b'<' | b'[' => {
                    if let Some(group) = self.groups.at(at) {
                        at = group.end;
                    }
                }
                b'(' => round += 1,
                b')' if round == 0 => is_paired = false,
                b')' => round -= 1,
                _ if bytes[at..end].starts_with(separator) && !(with_round && round > 0) => {
                    parts.push((from, at));
                    from = at + separator.len();
                    at = from;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        parts.push((from.min(end), end));
        (parts, is_paired && round == 0)
    }

    /// The entries of a tag: between `||`, else `|`, else commas; without the spaces around them.
    fn split_list(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let separators: [&[u8]; 3] = [b"||", b"|", b","];
        let parts = separators
            .into_iter()
            .map(|separator| self.split(start, end, separator))
            .find(|parts| parts.len() > 1);
        let parts = parts.unwrap_or_else(|| vec![(start, end)]);
        let trimmed = parts.into_iter().map(|(from, to)| self.trim(from, to));
        trimmed.collect()
    }

    fn trim(&self, start: usize, end: usize) -> (usize, usize) {
        let text = &self.text[start..end];
        let from = start + (text.len() - text.trim_start().len());
        (from, (from + text.trim().len()).max(from))
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_escape =
            character == '\\' && characters.peek().is_some_and(|next| is_escapable(*next));
        if !is_escape {
            plain.push(character);
        } else if let Some(next) = characters.next() {
            plain.push(next);
        }
    }
    plain
}

/// `2`, `1-3`, `2-` (that many or more), `-3` (one to three).
fn read_picks(written: &str) -> Option<(u32, u32)> {
    let number = |text: &str| -> Option<u32> {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u32 = is_number.then(|| text.parse().ok())??;
        (number <= MAX_PICKS).then_some(number)
    };
    let (low, high) = match written.split_once('-') {
        None => {
            let number = number(written)?;
            (number, number)
        }
        Some((low, high)) => {
            let (low, high) = (low.trim(), high.trim());
            if low.is_empty() && high.is_empty() {
                return None;
            }
            let low = if low.is_empty() { 1 } else { number(low)? };
            let high = if high.is_empty() {
                u32::MAX
            } else {
                number(high)?
            };
            (low, high)
        }
    };
    (low <= high && high > 0).then_some((low, high))
}

/// The weight before `::` in millionths and the bytes that it takes up.
pub fn read_weight(option: &str) -> Result<(u64, usize), Fault> {
    let trimmed = option.trim_start();
    let length = trimmed
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let written = &trimmed[..length];
    let Some(behind) = trimmed[length..].strip_prefix("::") else {
        return Ok((WEIGHT_UNIT, 0));
    };
    if written.is_empty() {
        return Ok((WEIGHT_UNIT, 0));
    }
    let bad = || Fault::BadWeight(written.chars().take(40).collect());
    let (whole, decimals) = written.split_once('.').unwrap_or((written, ""));
    if decimals.len() > 6 || decimals.contains('.') || whole.len() > 7 {
        return Err(bad());
    }
    let digits = format!("{whole}{decimals:0<6}");
    let weight: u64 = digits.parse().map_err(|_| bad())?;
    if weight > MAX_WEIGHT * WEIGHT_UNIT {
        return Err(bad());
    }
    Ok((weight, option.len() - behind.len()))
}

/// `1-5`, `-3-3`, `0.8-1.2`; None: it is no range.
fn read_number_range(text: &str) -> Option<Result<Node, Fault>> {
    let text = text.trim();
    let from = usize::from(text.starts_with('-'));
    let (low, high) = text.get(from..)?.split_once('-')?;
    let (low, high) = (&text[..from + low.len()], high);
    let is_number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        are_digits(whole) && are_digits(decimals)
    };
    if !is_number(low) || !is_number(high) {
        return None;
    }
    let places = |text: &str| {
        text.split_once('.')
            .map_or(0, |(_, decimals)| decimals.len())
    };
    let decimals = places(low).max(places(high));
    let scaled = |text: &str| -> Option<i64> {
        let missing = decimals - places(text);
        let digits = format!("{}{}", text.replace('.', ""), "0".repeat(missing));
        let number: i64 = digits.parse().ok()?;
        (number.abs() <= MAX_NUMBER).then_some(number)
    };
    let bad = || Fault::BadRange(text.chars().take(60).collect());
    if decimals > 6 {
        return Some(Err(bad()));
    }
    Some(match (scaled(low), scaled(high)) {
        (Some(low), Some(high)) if low <= high => Ok(Node::Number {
            low,
            high,
            decimals: u32::try_from(decimals).unwrap_or(0),
        }),
        _ => Err(bad()),
    })
}
