//! Prompts with choices: what a request's texts can become, and a look at it before anything is
//! asked for.
//!
//! Here is the one place where requests meet the prompt language; `resolve` asks for the texts of
//! its plans here, so whatever queues work expands alike. Not here: the language itself
//! (kinora-prompts), and where wildcards are kept (wildcards).

use std::sync::Arc;

use kinora_core::{Expansion, ModelId, Problem, PromptTemplate, Request, Seed};
use kinora_prompts::{Draws, Library, Prompt, PromptSchedule, SyntaxError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::{Error, Result},
    wildcards::WildcardFolder,
};

/// Pictures that one request makes of its combinations at most.
pub const MAX_COMBINATIONS: u64 = 1_000;
/// Texts that a preview answers with at most.
const MAX_PREVIEW: u32 = 200;
/// Texts that a preview answers with when no number is asked for.
const PREVIEW: u32 = 10;
/// The largest count that every reader of JSON keeps whole (2⁵³ − 1); it stands for that or more.
const MAX_TOTAL: u64 = (1 << 53) - 1;

/// The wildcards of this studio, as they are now.
pub(crate) fn library(app: &App) -> Library {
    Library::new(WildcardFolder::new(app.config().wildcards_dir()))
}

/// A prompt and its negative prompt, without choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub prompt: String,
    pub negative_prompt: String,
}

/// The texts of a request, read.
#[derive(Debug)]
pub(crate) struct Texts {
    prompt: Text,
    negative: Text,
    expansion: Expansion,
}

#[derive(Debug)]
enum Text {
    /// Says itself.
    Literal(String),
    Open(Prompt),
}

impl Text {
    fn read(text: &str, expansion: Expansion, library: &Library) -> Result<Self, Vec<SyntaxError>> {
        if expansion == Expansion::Off || kinora_prompts::is_plain(text) {
            return Ok(Text::Literal(text.to_owned()));
        }
        library.read(text).map(Text::Open)
    }

    fn count(&self) -> u128 {
        match self {
            Text::Literal(_) => 1,
            Text::Open(prompt) => prompt.count(),
        }
    }

    fn draw(&self, seed: Seed, stream: u64) -> Result<String, SyntaxError> {
        match self {
            Text::Literal(text) => Ok(text.clone()),
            Text::Open(prompt) => prompt.draw(Draws::new(seed.0, stream)),
        }
    }

    fn combination(&self, index: u128) -> Result<String, SyntaxError> {
        match self {
            Text::Literal(text) => Ok(text.clone()),
            Text::Open(prompt) => prompt.combination(index),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Text::Open(_))
    }
}

/// Something that is wrong with one of a request's texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextFault {
    pub field: &'static str,
    pub error: SyntaxError,
}

impl TextFault {
    /// As it is refused.
    pub fn problem(&self) -> Problem {
        Problem::in_field(self.field, self.error.to_string(), self.error.hint())
    }
}

impl Texts {
    /// Reads the texts of a request.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(request: &Request, library: &Library) -> Result<Self, Vec<TextFault>> {
        let expansion = request.expansion.unwrap_or_default();
        let mut faults = Vec::new();
        let mut read = |field, text: &str| {
            Text::read(text, expansion, library).unwrap_or_else(|errors| {
                faults.extend(errors.into_iter().map(|error| TextFault { field, error }));
                Text::Literal(String::new())
            })
        };
        let texts = Self {
            prompt: read("prompt", &request.prompt),
            negative: read("negative_prompt", &request.negative_prompt),
            expansion,
        };
        if faults.is_empty() {
            Ok(texts)
        } else {
            Err(faults)
        }
    }

    /// Whether both say themselves.
    pub fn are_plain(&self) -> bool {
        !self.prompt.is_open() && !self.negative.is_open()
    }

    /// How many combinations there are, `u128::MAX` for that or more.
    pub fn count(&self) -> u128 {
        self.prompt.count().saturating_mul(self.negative.count())
    }

    /// The words of a picture with this seed.
    pub fn draw(&self, seed: Seed) -> Result<Words, TextFault> {
        Ok(Words {
            prompt: in_prompt(self.prompt.draw(seed, 0))?,
            negative_prompt: in_negative(self.negative.draw(seed, 1))?,
        })
    }

    /// The words of that combination; the negative prompt changes first.
    pub fn combination(&self, index: u128) -> Result<Words, TextFault> {
        let each = self.negative.count().max(1);
        Ok(Words {
            prompt: in_prompt(self.prompt.combination(index / each))?,
            negative_prompt: in_negative(self.negative.combination(index % each))?,
        })
    }

    /// The words and the seed of every picture of a request.
    ///
    /// # Errors
    /// When there are too many combinations, or a text becomes too long.
    pub fn pictures(&self, first: Seed, copies: u32) -> Result<Vec<(Words, Seed)>, Problem> {
        let place = |fault: TextFault| fault.problem();
        let seeds = (0..copies).map(|copy| first.for_copy(copy));
        if self.expansion != Expansion::Combinations {
            let drawn = seeds.map(|seed| Ok((self.draw(seed).map_err(place)?, seed)));
            return drawn.collect();
        }
        let count = self.count();
        let pictures = count.saturating_mul(copies.into());
        if pictures > MAX_COMBINATIONS.into() {
            let times = if copies > 1 {
                format!(", {copies} pictures each")
            } else {
                String::new()
            };
            return Err(Problem::in_field(
                "prompt",
                format!(
                    "the prompt has {} combinations{times}; one request makes at most \
                     {MAX_COMBINATIONS} pictures",
                    describe_count(count)
                ),
                "Take options away, or let each picture draw its own words.",
            ));
        }
        let mut all = Vec::new();
        for index in 0..count {
            let words = self.combination(index).map_err(place)?;
            all.extend(seeds.clone().map(|seed| (words.clone(), seed)));
        }
        Ok(all)
    }

    /// What a plan of these words keeps of the texts; None: nothing more than the words say.
    pub fn template_of(&self, request: &Request) -> Option<PromptTemplate> {
        let is_literal = [&request.prompt, &request.negative_prompt]
            .into_iter()
            .all(|text| kinora_prompts::is_plain(text));
        (!is_literal).then(|| PromptTemplate {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone(),
            expansion: self.expansion,
        })
    }
}

fn in_prompt<T>(result: Result<T, SyntaxError>) -> Result<T, TextFault> {
    result.map_err(|error| TextFault {
        field: "prompt",
        error,
    })
}

fn in_negative<T>(result: Result<T, SyntaxError>) -> Result<T, TextFault> {
    result.map_err(|error| TextFault {
        field: "negative_prompt",
        error,
    })
}

/// `2,048`, or `more than 9,007,199,254,740,991`.
fn describe_count(count: u128) -> String {
    let digits = count.min(MAX_TOTAL.into()).to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if count > MAX_TOTAL.into() {
        return format!("more than {grouped}");
    }
    grouped
}

/// A prompt to look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewInput {
    /// What to paint.
    pub prompt: String,
    /// What to keep away from.
    pub negative_prompt: String,
    /// What becomes of the choices. None: drawn at random.
    pub expansion: Option<Expansion>,
    /// Seed of the first picture. None: the texts are examples.
    pub seed: Option<Seed>,
    /// The model that reads it. None: that of the settings.
    pub model: Option<ModelId>,
    /// How many texts to answer with, at most 200. None: 10.
    pub limit: Option<u32>,
}

/// What a prompt can become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpandedPrompt {
    /// What is painted.
    pub prompt: String,
    /// What is kept away from.
    pub negative_prompt: String,
    /// The seed that draws these words; None: it is a combination, or an example.
    pub seed: Option<Seed>,
}

/// Something that is wrong with a prompt, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptProblem {
    /// `prompt` or `negative_prompt`.
    pub field: String,
    /// The wildcard that it is in; None: the text itself.
    pub wildcard: Option<String>,
    /// Line, from 1.
    pub line: u32,
    /// Character of the line, from 1.
    pub column: u32,
    /// What is wrong, with its place.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What a request's texts can become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptPreview {
    /// Whether there is nothing to choose: the texts say themselves.
    pub is_plain: bool,
    /// How many combinations there are; 9007199254740991 stands for that or more.
    pub total: u64,
    /// How many of them one request makes at most.
    pub limit: u64,
    /// The first of them, or draws in the order of their seeds.
    pub expansions: Vec<ExpandedPrompt>,
    /// What the first of them says at each quarter of the work, where it changes between steps and
    /// the model does that.
    pub steps: Vec<String>,
    /// What is wrong; empty: nothing.
    pub problems: Vec<PromptProblem>,
}

/// Shows what a prompt with choices becomes, and how many combinations it has.
pub async fn preview(app: &Arc<App>, input: PreviewInput) -> Result<PromptPreview> {
    let library = library(app);
    let settings = app.settings();
    let candidates = app.catalogue().candidates();
    let default = crate::resolve::default_model(&candidates, &settings);
    let model = input.model.as_ref().or(default);
    let can = candidates
        .iter()
        .find(|found| Some(&found.model.id) == model)
        .map(|found| found.model.capabilities.clone());
    let changes = can.is_some_and(|can| can.prompt_schedule);
    // Wildcards are read from the disk, and long lists take a moment.
    tokio::task::spawn_blocking(move || look(&input, &library, changes))
        .await
        .map_err(Error::internal)
}

fn look(input: &PreviewInput, library: &Library, changes_between_steps: bool) -> PromptPreview {
    let request = Request {
        prompt: input.prompt.clone(),
        negative_prompt: input.negative_prompt.clone(),
        expansion: input.expansion,
        ..Request::default()
    };
    let mut preview = PromptPreview {
        is_plain: false,
        total: 0,
        limit: MAX_COMBINATIONS,
        expansions: Vec::new(),
        steps: Vec::new(),
        problems: Vec::new(),
    };
    let texts = match Texts::read(&request, library) {
        Ok(texts) => texts,
        Err(faults) => {
            preview.problems = faults.iter().map(PromptProblem::from).collect();
            return preview;
        }
    };
    preview.is_plain = texts.are_plain();
    preview.total = u64::try_from(texts.count())
        .unwrap_or(MAX_TOTAL)
        .min(MAX_TOTAL);
    let limit = input.limit.unwrap_or(PREVIEW).min(MAX_PREVIEW);
    let are_combinations = texts.expansion == Expansion::Combinations;
    let wanted = if texts.are_plain() { 1 } else { limit };
    for index in 0..wanted {
        if are_combinations && u64::from(index) >= preview.total {
            break;
        }
        let seed = input.seed.unwrap_or(Seed(0)).for_copy(index);
        let words = if are_combinations {
            texts.combination(index.into())
        } else {
            texts.draw(seed)
        };
        match words {
            Ok(words) => preview.expansions.push(ExpandedPrompt {
                prompt: words.prompt,
                negative_prompt: words.negative_prompt,
                seed: input.seed.map(|_| seed).filter(|_| !are_combinations),
            }),
            Err(fault) => {
                preview.problems.push(PromptProblem::from(&fault));
                break;
            }
        }
    }
    if changes_between_steps
        && let Some(first) = preview.expansions.first()
        && let Some(schedule) = PromptSchedule::parse(&first.prompt)
    {
        let mut steps: Vec<String> = [0, 5, 10, 15, 19].map(|step| schedule.at(step, 20)).into();
        steps.dedup();
        preview.steps = steps;
    }
    preview
}

impl From<&TextFault> for PromptProblem {
    fn from(fault: &TextFault) -> Self {
        Self {
            field: fault.field.to_owned(),
            wildcard: fault.error.wildcard.clone(),
            line: fault.error.at.line,
            column: fault.error.at.column,
            message: fault.error.to_string(),
            hint: fault.error.hint(),
        }
    }
}
