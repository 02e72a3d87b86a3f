//! The prompt language.
//!
//! | written | means |
//! |---|---|
//! | `{a\|b}` | one of these |
//! | `{3::a\|b}` | `a` three times as often as `b` |
//! | `{2$$a\|b\|c}`, `{1-3$$ and $$a\|b\|c}` | several of these, joined by `, ` or by what stands there |
//! | `<random:a,b>`, `<random[2]:a,b,c>`, `<random:1-5>` | the same as a tag; ranges are numbers |
//! | `<wildcard:animals/birds>` | a line of that list |
//! | `<repeat[3]:…>`, `<repeat:1-3,…>` | several times, each drawn anew |
//! | `<setvar[x]:…>`, `<var:x>` | the same drawn text in several places |
//! | `<comment:…>` | nothing |
//! | `<alternate:a,b>`, `<fromto[0.5]:a,b>` | `[a\|b]`, `[a:b:0.5]` |
//! | `\{` `\}` `\|` `\<` `\>` `\$` | the character itself |
//!
//! ```text
//! text ─ scan.rs (which brackets belong together) ─ parse.rs + library.rs (wildcards put in) ▶ Prompt
//! Prompt ─ draw.rs (one text from a seed)  or  combine.rs (how many there are, the n-th of them)
//! text ─ schedule.rs: what `[a|b]` and `[from:to:when]` say at each step
//! ```
//!
//! Braces without a bar are text, so prompts written as JSON come through whole; so are tags of
//! other names. `(word:1.2)` and `[word]` stay as they are: they are weights, and belong to the
//! text encoder.
//!
//! Everything is bounded: the depth of nesting, the size of a text, and the work of one expansion.
//! What is over a bound is refused with an error that says where.
//!
//! Not here: where wildcards are kept (the application), what weights do (kinora-diffusion).

mod combine;
mod draw;
mod error;
mod expand;
mod library;
mod marks;
mod parse;
mod scan;
mod schedule;

pub use combine::Combinations;
pub use draw::Draws;
pub use error::{Fault, Position, SyntaxError};
pub use library::{Library, Source, check_list, check_name};
pub use marks::{Outline, Span, SpanKind, escape, has_weights, is_plain};
pub use parse::Prompt;
pub use schedule::PromptSchedule;

/// Longest text that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Groups within groups, and wildcards within wildcards.
pub const MAX_DEPTH: usize = 32;
/// Options of one wildcard.
pub const MAX_OPTIONS: usize = 100_000;
/// Options that one group may pick, and times that a text is repeated.
pub const MAX_PICKS: u32 = 100;
/// Work of one expansion: groups visited plus bytes written.
pub const MAX_WORK: usize = 1 << 20;

#[cfg(test)]
mod tests;
