//! The program as people run it: arguments in, text, JSON, files and an exit code out. The engine and
//! the built-in model are real.
//!
//! Needs the program `kinora-engine` beside `kinora`: `cargo test --workspace` builds both.

#[path = "../server/mod.rs"]
mod server;

mod clips;
mod recipes;
mod sources;
mod studio;
mod trouble;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use kinora_core::ImageFormat;
use serde_json::{Value, json};

use server::Server;
use studio::*;

#[test]
fn lists_are_read_in_the_encodings_of_spreadsheets() {
    let studio = Studio::new();
    let text = "prompt,size\r\n\"a \"\"red\"\" house, ein Fuchs, 猫\",128x128\r\n";
    let wide = |write: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let marked = format!("\u{feff}{text}");
        marked.encode_utf16().flat_map(write).collect()
    };
    for (name, bytes) in [
        ("plain.csv", text.as_bytes().to_vec()),
        ("marked.csv", format!("\u{feff}{text}").into_bytes()),
        ("little.csv", wide(u16::to_le_bytes)),
        ("big.csv", wide(u16::to_be_bytes)),
    ] {
        let file = studio.write(name, bytes);
        let check = studio.ask(&["bulk", &file, "--dry-run"]);
        assert_eq!(check["pictures"], 1, "{name}: {check:#}");
        let prompt = &check["rows"][0]["request"]["prompt"];
        assert_eq!(prompt, "a \"red\" house, ein Fuchs, 猫", "{name}");
    }
    let latin = studio.write("latin.csv", b"prompt\ncaf\xe9\n");
    let ran = studio.run(&["bulk", &latin, "--dry-run"]);
    assert_eq!(ran.code(), FAILED);
    assert!(ran.errors().contains("UTF-8"), "{}", ran.errors());
}

#[test]
fn prompts_are_previewed_and_draw_from_kept_lists() {
    let studio = Studio::new();
    let file = studio.write("sky.txt", "at dawn\nat {night|noon}\n");
    let kept = studio.ask(&["wildcards", "set", "sky/light", &file]);
    assert_eq!(kept["options"], 2);
    let ran = studio.run(&["wildcards", "show", "sky/light"]);
    assert_eq!(ran.text(), "at dawn\nat {night|noon}\n");
    let ran = studio.run(&["wildcards", "list"]);
    assert!(ran.text().contains("sky/light  2"), "{}", ran.text());

    let prompt = "a {red|blue} house <wildcard:sky/light>";
    let ran = studio.run(&[
        "prompts",
        "preview",
        prompt,
        "--combinations",
        "--limit",
        "4",
    ]);
    assert_eq!(
        ran.text(),
        "a red house at dawn\na red house at night\na red house at noon\na blue house at dawn\n"
    );
    assert_eq!(ran.errors(), "6 combinations\n");
    let shown = studio.ask(&["prompts", "preview", prompt, "--seed", "5", "--limit", "2"]);
    let look = ["--size", "128x128", "--steps", "1", "--seed", "5"];
    let drawn = studio.ask(&[&["generate", prompt, "--copies", "2"][..], &look].concat());
    for copy in 0..2 {
        assert_eq!(
            drawn["jobs"][copy]["plan"]["prompt"],
            shown["expansions"][copy]["prompt"]
        );
    }
    let all = studio.ask(&[&["generate", "{a|b} house", "--combinations"][..], &look].concat());
    assert_eq!(all["assets"].as_array().unwrap().len(), 2);
    let plain = studio.ask(&[&["generate", "{a|b} house", "--plain"][..], &look].concat());
    assert_eq!(plain["jobs"][0]["plan"]["prompt"], "{a|b} house");

    let gone = studio.ask(&["wildcards", "delete", "sky/light"]);
    assert_eq!(gone["text"], "at dawn\nat {night|noon}\n");
    let ran = studio.run(&["generate", prompt]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    let studio = Studio::new();
    let nobody = "01900000-0000-7000-8000-00000000dead";
    for (arguments, code) in [
        (&["generate", ""][..], WRONG_INPUT),
        (&["generate", "x", "--size", "1x1"], WRONG_INPUT),
        (&["generate", "x", "--model", "nothing"], WRONG_INPUT),
        (&["generate", "x", "--seed", "-4"], WRONG_INPUT),
        (&["generate", "x", "--session", "no-id"], WRONG_INPUT),
        (&["bulk", "nowhere.csv"], NOT_FOUND),
        (&["jobs", "show", nobody], NOT_FOUND),
        (&["jobs", "show", "no-id"], WRONG_INPUT),
        (&["assets", "trash", nobody], NOT_FOUND),
        (&["models", "show", "nothing"], NOT_FOUND),
        (&["prompts", "preview", "{a|b"], WRONG_INPUT),
        (&["generate", "x", "--plain", "--combinations"], WRONG_INPUT),
        (&["wildcards", "show", "nothing"], NOT_FOUND),
        (&["wildcards", "show", "../x"], WRONG_INPUT),
        (&["cleanup"], WRONG_INPUT),
        (&["cleanup", "--job", nobody], NOT_FOUND),
        (&["nonsense"], WRONG_INPUT),
        (&["cleanup", "--status"], DONE),
        (&["cleanup", "--hours", "1", "--dry-run"], DONE),
        (&["jobs", "list"], DONE),
    ] {
        let ran = studio.run(arguments);
        assert_eq!(ran.code(), code, "{arguments:?}: {}", ran.errors());
        assert_eq!(ran.text().is_empty(), code != DONE, "{arguments:?}");
    }
    // Refusals are JSON too when JSON is asked for.
    let ran = studio.run(&["generate", "", "--json"]);
    assert_eq!(ran.json()["code"], json!("invalid_input"));
    assert_eq!(ran.json()["field"], json!("prompt"));
}
