use kinora_core::{ModelId, PlannedPicture};
use rand::{Rng as _, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::{resolve::fixtures, settings::Settings};

fn check_with(input: &BulkInput) -> Reading {
    let models = fixtures::models();
    let settings = Settings::default();
    let now = "2026-03-04T05:06:07+00:00[UTC]".parse().unwrap();
    let context = Context {
        models: &models,
        settings: &settings,
        now: &now,
        memory_available: None,
        memory_needed: &|_| 0,
        picture: &find_picture,
        lora: &|_, _| Err(Problem::new(kinora_core::Code::NotFound, "no LoRA", "")),
        components: &|id, _| {
            Err(kinora_core::Problem::new(
                kinora_core::Code::NotFound,
                format!("no parts of {id}"),
                "",
            ))
        },
        random_seed: &|| 77,
        library: &kinora_prompts::Library::default(),
    };
    read(input, "a1b2c3d4", &context)
}

/// A picture that is here, however it is named.
fn find_picture(reference: &PictureRef) -> Result<PlannedPicture, Problem> {
    match reference {
        PictureRef::Input(digest) => Ok(PlannedPicture {
            sha256: digest.clone(),
            width: 512,
            height: 512,
            asset: None,
            path: "/inputs/a".into(),
        }),
        _ => Err(Problem::new(kinora_core::Code::NotFound, "no picture", "")),
    }
}

fn input(text: &str) -> BulkInput {
    serde_json::from_value(serde_json::json!({ "text": text })).unwrap()
}

fn check(text: &str) -> Reading {
    check_with(&input(text))
}

/// One line per picture, or per problem: what a user would want to see of a list.
fn summarize(reading: &Reading) -> String {
    use std::fmt::Write;
    let mut text = format!("{:?}: {}\n", reading.format, reading.columns.join(", "));
    for picture in &reading.pictures {
        let plan = &picture.plan;
        let _ = writeln!(
            text,
            "{}.{} {} {}x{} {} steps seed {} {:?} -> {}.{}{}{}",
            picture.line,
            picture.copy,
            plan.model.id,
            plan.size.width,
            plan.size.height,
            plan.steps,
            plan.seed,
            plan.prompt,
            plan.output.stem,
            plan.output.format.extension(),
            plan.guidance
                .map_or(String::new(), |scale| format!(" guidance {scale}")),
            plan.true_cfg.map_or(String::new(), |scale| format!(
                " not {:?} x{scale}",
                plan.negative_prompt
            )),
        );
    }
    for problem in &reading.problems {
        let _ = writeln!(text, "! {problem} [{}]", problem.hint);
    }
    for note in &reading.notes {
        let _ = writeln!(text, "? line {:?}: {}", note.line, note.message);
    }
    text
}

macro_rules! assert_list {
    ($text:expr) => {
        insta::assert_snapshot!(summarize(&check($text)))
    };
}

#[test]
fn plain_lines() {
    assert_list!(
        "# my list\na red fox\n\n  a {blue|green} bird, flying  \r\n\\#1 of a series\na {word} {\n"
    );
}

#[test]
fn a_table_with_every_kind_of_column() {
    assert_list!(
        "prompt,Negative Prompt,model,seed,size,steps,guidance,copies,output,priority,animal,# mine\n\
         a {animal},,fast,7,320x256,2,,2,{animal}-{copy},urgent,fox,x\n\
         # a comment, with commas\n\
         \"a {animal}, at night\",rain,full,,,,\"3,5\",,,,big owl,\n\
         the end,,,,,,,,,,,\n"
    );
}

#[test]
fn values_are_combined_as_a_product() {
    assert_list!("prompt,color,size,seed\na {color} {cat|dog},red|blue,256x256|512x256,5\n");
}

#[test]
fn values_are_combined_as_pairs() {
    let mut list = input(
        "prompt,color,steps\na {color} fox,{red|blue},1|2\na {color} owl,red|blue|green,1|2\n",
    );
    list.combine = Combine::Zip;
    insta::assert_snapshot!(summarize(&check_with(&list)));
    list.text = "prompt,color,steps\na {color} fox,{red|blue},1|2\n".to_owned();
    insta::assert_snapshot!(summarize(&check_with(&list)));
}

#[test]
fn json_lines() {
    assert_list!(
        "{\"prompt\": \"a {color} fox\", \"color\": [\"red\", \"a|b\"], \"seed\": 18446744073709551615}\n\
         # comment\n\
         \"just a text\"\n\
         {\"prompt\": \"{\\\"scene\\\": \\\"a lake\\\"}\", \"steps\": 3, \"copies\": null}\n"
    );
}

#[test]
fn pasted_from_a_spreadsheet() {
    assert_list!("Prompt\tSeed\tWidth\na fox\t1\t512,0\n\"a \"\"big\"\"\nowl\"\t2\t\n");
    assert_list!("prompt;steps;guidance\na fox;3;\n");
}

#[test]
fn every_bad_row_is_named_at_once() {
    assert_list!(
        "prompt,modle,seed,width,steps,model,weather\n\
         a fox,x,1,512,4,fast\n\
         ,x,-5,abc,0,fast\n\
         a {wether} fox,x,,99999,,fsat\n\
         a fox, and more,x,1,512,4,fast,sun,rain,snow\n\
         \"unclosed,x,1,512,4,fast\n"
    );
}

#[test]
fn what_comes_from_the_defaults_is_said_once() {
    let mut list = input("a fox\nan owl\n");
    list.defaults.model = Some(ModelId::new("gone"));
    insta::assert_snapshot!(summarize(&check_with(&list)));
    let mut list = input("animal\nfox\nowl\n");
    list.format = Some(ListFormat::Csv);
    list.defaults.prompt = "a {animal}".to_owned();
    list.defaults.output_name = Some("{name}/{line(3)}-{animal}".to_owned());
    list.defaults.width = Some(500);
    list.name = Some("/home/x/my animals.csv".to_owned());
    insta::assert_snapshot!(summarize(&check_with(&list)));
}

#[test]
fn odd_tables_are_refused_or_read_without_surprise() {
    assert_list!("");
    assert_list!("# only comments\n\n");
    assert_list!("prompt\n");
    assert_list!("prompt,prompt,,size,width\na,b,c,d,e\n");
    assert_list!("{\"prompt\": {\"a\": 1}}\n{\"prompt\": [\"a\", \"b\"]}\n[1]\n{oops\n");
    assert_list!("\u{feff}prompt,steps\r\nx,2\r\n");
}

#[test]
fn formats_are_found_out() {
    for (text, name, expected) in [
        ("a fox", None, ListFormat::Lines),
        ("a fox, running\na bird, flying", None, ListFormat::Lines),
        ("prompt,seed\na,1", None, ListFormat::Csv),
        ("prompt", None, ListFormat::Csv),
        ("# c\n\nPrompt;Seed\na;1", None, ListFormat::Csv),
        ("seed\tprompt\n1\ta", None, ListFormat::Tsv),
        ("{\"prompt\":\"x\"}", None, ListFormat::Jsonl),
        ("{a|b} fox", None, ListFormat::Lines),
        ("{\"prompt\":\"x\"}", Some("x.csv"), ListFormat::Csv),
        ("a", Some("X.TSV"), ListFormat::Tsv),
        ("a", Some("x.jsonl"), ListFormat::Jsonl),
        ("a", Some("x.txt"), ListFormat::Lines),
    ] {
        assert_eq!(table::sniff(text, name), expected, "{text:?} {name:?}");
    }
}

#[test]
fn limits_are_said_not_suffered() {
    let values = ["x"; 200].join("|");
    let header: Vec<String> = (0..20).map(|column| format!("c{column}")).collect();
    let holes: Vec<String> = header.iter().map(|name| format!("{{{name}}}")).collect();
    let cells = vec![values.as_str(); 20].join(",");
    let text = format!("prompt,{}\n{},{cells}\n", header.join(","), holes.join(""));
    let reading = check(&text);
    assert!(
        reading.problems[0]
            .message
            .contains("more than 100000 rows"),
        "{:?}",
        reading.problems
    );

    let reading = check(&"x\n".repeat(100_001));
    assert!(
        reading.problems[0].message.contains("at most 100000"),
        "{:?}",
        reading.problems[0]
    );
    assert!(reading.rows.is_empty());

    let reading = check("prompt,copies\nx,64\n");
    assert_eq!(reading.pictures.len(), 64);
    let many = format!("prompt,copies\n{}", "x,64\n".repeat(1_600));
    let reading = check(&many);
    assert!(
        reading.problems[0].message.contains("102400 pictures"),
        "{:?}",
        reading.problems[0]
    );

    let bad = format!("prompt,steps\n{}", "x,none\n".repeat(20_000));
    let reading = check(&bad);
    assert_eq!(reading.problems.len(), MAX_PROBLEMS + 1);

    let huge = input(&"x".repeat(table::MAX_BYTES + 1));
    assert!(check_with(&huge).problems[0].message.contains("bytes"));
}

#[test]
fn no_text_whatever_breaks_the_reader() {
    let fixtures = [
        "prompt,Negative,model,seed,size,copies,output,animal\na {animal},,fast,7,320x192,2,{animal}-{copy},fox|owl\n\"x, \"\"y\"\"\",rain,full,,,,,\n",
        "{\"prompt\": \"a {color} {b|c}\", \"color\": [\"red\", 5], \"seed\": 1}\n\"t\"\n",
        "a {b|c} d\n# x\n\\# y\n{}{{}}|\\|",
        "Prompt\tSeed\na\t1\n\"b\nc\"\t2\n",
    ];
    let alphabet: Vec<char> = "{}|\\\"',;\t\n\r#[]:0-9axé日\u{feff}\u{0} "
        .chars()
        .collect();
    let mut random = StdRng::seed_from_u64(8030);
    for round in 0..800 {
        let mut letters: Vec<char> = fixtures[round % fixtures.len()].chars().collect();
        for _ in 0..random.random_range(1..8) {
            let at = random.random_range(0..letters.len());
            match random.random_range(0..4) {
                0 => letters[at] = *alphabet.choose(&mut random).unwrap(),
                1 => letters.insert(at, *alphabet.choose(&mut random).unwrap()),
                2 => drop(letters.drain(at..(at + 3).min(letters.len()))),
                _ => {
                    let copied: Vec<char> = letters[at..].iter().take(12).copied().collect();
                    letters.extend(copied);
                }
            }
            if letters.is_empty() {
                letters.push('x');
            }
        }
        let text: String = letters.into_iter().collect();
        let lines = u32::try_from(text.lines().count() + text.matches('\r').count() + 1).unwrap();
        for format in [
            None,
            Some(ListFormat::Csv),
            Some(ListFormat::Jsonl),
            Some(ListFormat::Lines),
        ] {
            let mut list = input(&text);
            list.format = format;
            list.combine = if round % 2 == 0 {
                Combine::Product
            } else {
                Combine::Zip
            };
            let reading = check_with(&list);
            assert_ne!(
                reading.problems.is_empty(),
                reading.pictures.is_empty(),
                "{text:?}"
            );
            for row in &reading.rows {
                assert!((1..=lines).contains(&row.line), "{text:?}");
            }
            for picture in &reading.pictures {
                assert!(!picture.plan.prompt.trim().is_empty(), "{text:?}");
                assert!(!picture.plan.output.stem.contains(".."), "{text:?}");
            }
        }
    }
}

/// `asset:` is a picture that is gone, letters stand for pictures that came with the list.
fn check_pictures(text: &str) -> Reading {
    let mut list = input(text);
    list.pictures = ('a'..='d')
        .map(|name| {
            let digest = name.to_string().repeat(64);
            (name.to_string(), format!("input:{digest}").parse().unwrap())
        })
        .collect();
    check_with(&list)
}

#[test]
fn a_row_takes_several_pictures() {
    let reading = check_pictures(
        "strength_3,image_3,image,image_2,strength,prompt,model\n\
         0.5,c,a,b,1.5,,varier\n\
         ,,a,b|c,,,varier\n",
    );
    assert_eq!(reading.problems, []);
    let given: Vec<String> = (reading.pictures.iter())
        .map(|picture| {
            let source = picture.plan.source.as_ref().unwrap();
            let letter = |picture: &PlannedPicture| picture.sha256.to_string()[..1].to_owned();
            let more = source.more_images.iter();
            let more = more.map(|more| format!("{}{:?}", letter(&more.image), more.strength));
            format!("{} {}", letter(&source.image), more.collect::<String>())
        })
        .collect();
    assert_eq!(
        given,
        ["a bSome(1.5)cSome(0.5)", "a bSome(1.0)", "a cSome(1.0)"]
    );
    let named = picture_names("image,image_2\nfox.png,owl.png\n", None, None);
    assert_eq!(named, ["fox.png", "owl.png"]);
}

#[test]
fn what_is_wrong_with_further_pictures_is_said_in_their_columns() {
    let gone = "asset:00000000-0000-7000-8000-000000000000";
    let reading = check_pictures(&format!(
        "prompt,model,image,image_2,image_3,image_4,strength_3,vae_tiling,components\n\
         x,varier,a,,b,,,,\n\
         x,varier,a,b,{gone},,,,\n\
         x,varier,a,b,c,d,,,\n\
         x,varier,a,b,c,,9,,\n\
         x,varier,a,b,,,0.5,,\n\
         x,fast,,,,,,yes,\n\
         x,mover,a,,,,,loud,\n\
         x,fast,,,,,,,ae\n\
         x,fast,,,,,,,vae=ae\n",
    ));
    insta::assert_snapshot!(summarize(&reading));
}
