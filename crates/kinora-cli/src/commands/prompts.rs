//! `kinora prompts`: what prompts with choices become.

use kinora_app::prompts::PromptPreview;
use kinora_core::{Code, Problem, Problems, Seed};
use serde_json::json;

use crate::{
    Context,
    args::{Preview, Prompts},
    connection::Refusal,
    exit,
};

use super::read_text;

/// Runs `kinora prompts …`.
///
/// # Errors
/// A prompt that cannot be read, a lost connection.
pub async fn run(context: &Context, arguments: Prompts) -> Result<u8, Refusal> {
    let Prompts::Preview(arguments) = arguments;
    preview(context, arguments).await
}

async fn preview(context: &Context, arguments: Preview) -> Result<u8, Refusal> {
    let prompt = match arguments.prompt.as_str() {
        "-" => read_text("-".as_ref())?.trim().to_owned(),
        prompt => prompt.to_owned(),
    };
    let input = json!({
        "prompt": prompt,
        "negative_prompt": arguments.negative.unwrap_or_default(),
        "expansion": if arguments.combinations { "combinations" } else { "random" },
        "seed": arguments.seed.map(Seed),
        "model": arguments.model,
        "limit": arguments.limit,
    });
    let preview: PromptPreview = context.connection.call("prompts_preview", input).await?;
    let problems = preview.problems.iter().map(|problem| Problem {
        field: Some(problem.field.clone()),
        ..Problem::new(
            Code::InvalidInput,
            problem.message.clone(),
            problem.hint.clone(),
        )
    });
    if let Some(problems) = Problems::from_list(problems.collect()) {
        return Err(problems.into());
    }
    context.print(&preview, || {
        let texts = preview.expansions.iter().map(|text| {
            let seed = text.seed.map(|seed| format!("{seed}  "));
            let negative = match text.negative_prompt.as_str() {
                "" => String::new(),
                negative => format!("  (not: {negative})"),
            };
            format!("{}{}{negative}", seed.unwrap_or_default(), text.prompt)
        });
        texts.collect::<Vec<_>>().join("\n")
    });
    context.tell(match preview.total {
        1 => "1 combination".to_owned(),
        total => format!("{total} combinations"),
    });
    Ok(exit::DONE)
}
