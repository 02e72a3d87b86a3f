//! The table: a request on one side, the plan or the refusal on the other.

use kinora_core::{ImageFormat, Priority, Rng, Sampler, Schedule};
use serde_json::{Value, json};

use super::{fixtures::models, *};

mod choices;
mod clips;
mod given;
mod numbers;
mod words;

const GIB: u64 = 1 << 30;

/// Wildcards of the tests.
struct Lists;

impl kinora_prompts::Source for Lists {
    fn read(&self, name: &str) -> Result<Option<String>, String> {
        Ok((name == "colors").then(|| "red\nblue\n".to_owned()))
    }

    fn names(&self) -> Vec<String> {
        vec!["colors".to_owned()]
    }
}

fn run(
    request: &Value,
    settings: &Settings,
    models: &[Candidate],
) -> Result<Resolved, Vec<Problem>> {
    let request: Request = serde_json::from_value(request.clone()).unwrap();
    let now: Zoned = "2026-03-04T05:06:07+00:00[UTC]".parse().unwrap();
    let memory_needed = |plan: &Plan| {
        if plan.model.id.as_str() == "huge" {
            100 * GIB
        } else {
            plan.size.pixels() * 1024
        }
    };
    resolve(
        &request,
        Place::default(),
        &Context {
            models,
            settings,
            now: &now,
            memory_available: Some(64 * GIB),
            memory_needed: &memory_needed,
            picture: &find_picture,
            lora: &find_lora,
            components: &find_components,
            random_seed: &|| 4_000_000_000,
            library: &kinora_prompts::Library::new(Lists),
        },
    )
}

/// A picture of 1200 × 800 pixels, and nothing else.
const HERE: &str = "input:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const GONE: &str = "input:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn find_picture(reference: &PictureRef) -> Result<PlannedPicture, Problem> {
    match reference {
        PictureRef::Input(digest) if reference.to_string() == HERE => Ok(PlannedPicture {
            sha256: digest.clone(),
            width: 1200,
            height: 800,
            asset: None,
            path: "/inputs/a".into(),
        }),
        _ => Err(Problem::new(
            Code::NotFound,
            "the picture is not here",
            "Drop it.",
        )),
    }
}

fn find_lora(_: &ModelId, name: &str) -> Result<PlannedLora, Problem> {
    match name {
        "ink" | "style" => Ok(PlannedLora {
            name: name.to_owned(),
            expert: None,
            weight: 1.0,
            bytes: 10,
            sha256: None,
            path: format!("/loras/{name}").into(),
        }),
        _ => Err(Problem::new(
            Code::NotFound,
            "there is no such LoRA",
            "Get it.",
        )),
    }
}

/// There is one other VAE, and it fits one model.
fn find_components(
    model: &ModelId,
    chosen: &std::collections::BTreeMap<String, String>,
) -> Result<PlannedModel, Problem> {
    let fits = model.as_str() == "fast" && chosen.len() == 1;
    let name = chosen.get("vae").filter(|name| fits && *name == "ae");
    let Some(name) = name else {
        let message = "choose a file: it is not there";
        return Err(Problem::in_field(
            "components.vae",
            message,
            "Choose another.",
        ));
    };
    let known = models().into_iter().find(|known| known.model.id == *model);
    Ok(PlannedModel {
        components: [("vae".to_owned(), name.clone())].into(),
        parts: [("vae".to_owned(), "/parts/ae.safetensors".into())].into(),
        ..known.and_then(|known| known.planned).unwrap()
    })
}

#[test]
fn a_chosen_part_becomes_part_of_the_plan_or_is_refused() {
    let ask = |vae: &str| {
        let request = json!({"prompt": "a cat", "model": "fast", "components": {"vae": vae}});
        run(&request, &Settings::default(), &models())
    };
    let resolved = ask("ae").unwrap();
    let model = &resolved.plans[0].model;
    assert_eq!(model.components["vae"], "ae");
    assert!(model.parts["vae"].ends_with("ae.safetensors"));
    // What leaves this machine names the choice and no path.
    let mut plan = resolved.plans[0].clone();
    plan.forget_machine();
    assert!(plan.model.parts.is_empty());
    assert_eq!(plan.model.components["vae"], "ae");
    let problems = ask("other").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field.as_deref(), Some("components.vae"));
    let many: serde_json::Map<_, _> = (0..9).map(|n| (format!("p{n}"), json!("x"))).collect();
    let request = json!({"prompt": "a cat", "model": "fast", "components": many});
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert_eq!(problems[0].field.as_deref(), Some("components"));
}

/// The picture that is here, as plans name it.
fn here() -> Value {
    json!({"sha256": &HERE[6..], "width": 1200, "height": 800, "path": "/inputs/a"})
}

/// What a row of the table expects.
enum Expect {
    /// Accepted; these members of the first plan have these values; so many notes.
    Plan(Value, usize),
    /// Refused: code and field of each problem.
    Refused(&'static [(Code, &'static str)]),
}
use Expect::{Plan as Ok_, Refused as No};

const INVALID: Code = Code::InvalidInput;

/// What is asked, and what comes of it.
fn table() -> Vec<(Value, Expect)> {
    [
        words::rows(),
        given::rows(),
        clips::rows(),
        numbers::rows(),
        choices::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn a_hundred_requests_become_plans_or_refusals() {
    let settings = Settings::default();
    let models = models();
    let table = table();
    let mut rows = 0;
    for (request, expect) in &table {
        if request.get("version").is_some() {
            // Unknown members are refused before resolve, by the request's type.
            assert!(serde_json::from_value::<Request>(request.clone()).is_err());
            rows += 1;
            continue;
        }
        match (run(request, &settings, &models), expect) {
            (Ok(resolved), Ok_(members, notes)) => {
                let plan = serde_json::to_value(&resolved.plans[0]).unwrap();
                for (name, value) in members.as_object().unwrap() {
                    assert_eq!(plan[name], *value, "{name} of {request}");
                }
                assert_eq!(
                    resolved.notes.len(),
                    *notes,
                    "{request}: {:?}",
                    resolved.notes
                );
                assert_eq!(plan["version"], PLAN_VERSION);
                assert_eq!(plan["numerics"], NUMERICS);
            }
            (Err(problems), No(expected)) => {
                let found: Vec<(Code, &str)> = problems
                    .iter()
                    .map(|problem| (problem.code, problem.field.as_deref().unwrap_or_default()))
                    .collect();
                assert_eq!(found, *expected, "{request}");
                for problem in &problems {
                    assert!(
                        !problem.message.is_empty() && !problem.hint.is_empty(),
                        "{problem:?}"
                    );
                }
            }
            (Ok(_), No(_)) => panic!("accepted: {request}"),
            (Err(problems), Ok_(..)) => panic!("refused: {request}: {problems:?}"),
        }
        rows += 1;
    }
    assert!(rows >= 100, "only {rows} rows");
}

#[test]
fn copies_count_their_seeds_and_names_upwards() {
    let request = json!({"prompt": "x", "copies": 3, "seed": "18446744073709551614", "output_name": "{copy}"});
    let plans = run(&request, &Settings::default(), &models())
        .unwrap()
        .plans;
    let seeds: Vec<u64> = plans.iter().map(|plan| plan.seed.0).collect();
    assert_eq!(seeds, [u64::MAX - 1, u64::MAX, 0]);
    let stems: Vec<&str> = plans.iter().map(|plan| plan.output.stem.as_str()).collect();
    assert_eq!(stems, ["1", "2", "3"]);
    assert!(plans[0].is_batchable_with(&plans[2]));
}

#[test]
fn settings_fill_what_the_request_leaves_out() {
    let settings = Settings {
        default_model: Some(ModelId::new("full")),
        default_copies: 4,
        output_template: "{model}".to_owned(),
        format: ImageFormat::Webp,
        ..Settings::default()
    };
    let resolved = run(&json!({"prompt": "x"}), &settings, &models()).unwrap();
    assert_eq!(resolved.plans.len(), 4);
    let plan = &resolved.plans[0];
    assert_eq!(plan.model.id.as_str(), "full");
    assert_eq!(plan.output.stem, "full");
    assert_eq!(plan.output.format, ImageFormat::Webp.into());
    assert_eq!(
        (plan.rng, plan.sampler, plan.schedule),
        (Rng::Cpu, Sampler::Euler, Schedule::FlowMatch)
    );
    // A default that the model does not allow is brought into its limits, not refused.
    let request = json!({"prompt": "x", "model": "odd"});
    assert_eq!(run(&request, &settings, &models()).unwrap().plans.len(), 1);
    // A default model that is gone falls back to the first usable one.
    let settings = Settings {
        default_model: Some(ModelId::new("gone")),
        ..settings
    };
    let resolved = run(&json!({"prompt": "x"}), &settings, &models()).unwrap();
    assert_eq!(resolved.plans[0].model.id.as_str(), "fast");
}

#[test]
fn an_empty_catalogue_and_numbers_that_are_none_are_refused() {
    let problems = run(&json!({"prompt": "x"}), &Settings::default(), &[]).unwrap_err();
    assert_eq!(problems[0].code, Code::ModelNotInstalled);
    let models = models();
    let now = Zoned::now();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let request = Request {
            prompt: "x".to_owned(),
            model: Some(ModelId::new("full")),
            guidance: Some(value),
            true_cfg: Some(value),
            priority: Some(Priority::Bulk),
            ..Request::default()
        };
        let context = Context {
            models: &models,
            settings: &Settings::default(),
            now: &now,
            memory_available: None,
            memory_needed: &|_| u64::MAX,
            picture: &|_| Err(Problem::new(Code::NotFound, "no picture", "")),
            lora: &|_, _| Err(Problem::new(Code::NotFound, "no LoRA", "")),
            components: &|id, _| {
                Err(kinora_core::Problem::new(
                    kinora_core::Code::NotFound,
                    format!("no parts of {id}"),
                    "",
                ))
            },
            random_seed: &|| 1,
            library: &kinora_prompts::Library::default(),
        };
        let problems = resolve(
            &request,
            Place {
                line: Some(3),
                ..Place::default()
            },
            &context,
        );
        let problems = problems.unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().all(|problem| problem.line == Some(3)));
    }
}

#[test]
fn a_refusal_for_memory_has_both_numbers_and_what_fits() {
    let request = json!({"prompt": "x", "model": "huge"});
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert!(
        problems[0].message.contains("100.0 GiB"),
        "{}",
        problems[0].message
    );
    assert!(
        problems[0].message.contains("64.0 GiB"),
        "{}",
        problems[0].message
    );
    assert!(
        problems[0].hint.contains("fast, full, odd"),
        "{}",
        problems[0].hint
    );
}

#[test]
fn every_copy_draws_its_own_words_from_its_own_seed() {
    let request = json!({
        "prompt": "a {red|green|blue|black} {fox|owl|hen} <wildcard:colors>",
        "negative_prompt": "{a|b|c|d}", "model": "full", "seed": 5, "copies": 40
    });
    let run = |request: &Value| run(request, &Settings::default(), &models()).unwrap().plans;
    let plans = run(&request);
    let words: std::collections::HashSet<(&str, &str)> = plans
        .iter()
        .map(|plan| (plan.prompt.as_str(), plan.negative_prompt.as_str()))
        .collect();
    assert!(words.len() > 20, "{}", words.len());
    // The same seed draws the same words, alone as in a row.
    for plan in [&plans[0], &plans[17], &plans[39]] {
        let mut alone = request.clone();
        alone["seed"] = json!(plan.seed);
        alone["copies"] = json!(1);
        let alone = &run(&alone)[0];
        assert_eq!(
            (&alone.prompt, &alone.negative_prompt),
            (&plan.prompt, &plan.negative_prompt)
        );
        let template = alone.template.as_ref().unwrap();
        assert_eq!(template.prompt, request["prompt"].as_str().unwrap());
        // What a recipe asks for is not drawn again.
        let again = crate::recipes::to_request(alone, None);
        assert_eq!(
            run(&serde_json::to_value(again).unwrap())[0].prompt,
            alone.prompt
        );
    }
    // A file's name is made of the words that were drawn.
    assert!(
        plans[0]
            .output
            .stem
            .contains(&plans[0].prompt.replace(' ', "_")[..8])
    );
}

#[test]
fn combinations_make_one_picture_each_with_the_same_seeds() {
    let request = json!({
        "prompt": "{a|b} x", "negative_prompt": "{c|d}", "model": "full",
        "expansion": "combinations", "seed": 9, "copies": 2
    });
    let plans = run(&request, &Settings::default(), &models())
        .unwrap()
        .plans;
    let all: Vec<String> = plans
        .iter()
        .map(|plan| format!("{}-{}-{}", plan.prompt, plan.negative_prompt, plan.seed))
        .collect();
    assert_eq!(
        all,
        [
            "a x-c-9", "a x-c-10", "a x-d-9", "a x-d-10", "b x-c-9", "b x-c-10", "b x-d-9",
            "b x-d-10"
        ]
    );
    let request = json!({
        "prompt": "{a|b}".repeat(60), "expansion": "combinations", "copies": 2
    });
    let problems = run(&request, &Settings::default(), &models()).unwrap_err();
    assert_eq!(
        problems[0].message,
        "the prompt has more than 9,007,199,254,740,991 combinations, 2 pictures each; one request \
         makes at most 1000 pictures"
    );
}
