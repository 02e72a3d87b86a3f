//! The user's own `models.toml`: what it may change and add, and how its mistakes are named.

use std::{fmt::Write as _, fs};

use kinora_catalog::{Catalogue, Folders};
use kinora_core::ModelId;

fn load(text: &str) -> (tempfile::TempDir, Catalogue) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.toml");
    fs::write(&file, text).unwrap();
    let catalogue = Catalogue::load(Folders {
        user_file: Some(file),
        ..Folders::default()
    });
    (folder, catalogue)
}

#[test]
fn single_values_of_a_known_entry_can_be_changed() {
    let (_folder, catalogue) = load(
        r#"
        [[model]]
        id = "flux-dev"
        tags = ["mine"]
        capabilities.steps.default = 35
        capabilities.guidance = { default = 2.5 }
        [model.capabilities.size.default]
        width = 768
        "#,
    );
    assert_eq!(catalogue.faults(), []);
    let dev = catalogue.model(&ModelId::new("flux-dev")).unwrap();
    assert_eq!((dev.defaults.steps, dev.defaults.guidance), (35, Some(2.5)));
    assert_eq!((dev.defaults.width, dev.defaults.height), (768, 1024));
    assert_eq!(dev.tags, ["mine"]);
    assert_eq!(
        (dev.capabilities.steps.max, dev.name.as_str()),
        (100, "FLUX.1 dev")
    );
    let (_other, plain) = load("version = 1");
    assert_eq!(catalogue.models().count(), plain.models().count());
}

const OWN: &str = r#"
[[model]]
id = "own"
name = "My own"
family = "flux"
variant = "dev"
category = "specialized"
path = "/models/own"
size_gb = 12.5

[model.capabilities]
modes = ["text_to_image"]
steps = { min = 1, max = 50, default = 20 }
guidance = { min = 1, max = 10, default = 3 }
copies = { min = 1, max = 10, default = 1 }
prompt_chars = 500
text_tokens = 256
samplers = ["euler"]
schedules = ["flow_match"]

[model.capabilities.size]
min = 256
max = 1024
multiple = 16
default = { width = 512, height = 512 }
presets = [{ label = "1:1", width = 512, height = 512 }]
"#;

#[test]
fn entries_can_be_added() {
    let (_folder, catalogue) = load(OWN);
    assert_eq!(catalogue.faults(), []);
    let own = catalogue.model(&ModelId::new("own")).unwrap();
    assert_eq!((own.bytes, own.is_installed), (12_500_000_000, false));
    assert_eq!(own.category, "specialized");
}

#[test]
fn an_absent_file_is_no_fault() {
    let catalogue = Catalogue::load(Folders {
        user_file: Some("/nowhere/models.toml".into()),
        ..Folders::default()
    });
    assert_eq!(catalogue.faults(), []);
}

#[test]
fn mistakes_name_file_entry_and_key() {
    let change = |from: &str, to: &str| {
        assert!(OWN.contains(from), "{from}");
        OWN.replacen(from, to, 1)
    };
    let cases = [
        ("no TOML", "[[model]\n".to_owned()),
        ("another form", "version = 2".to_owned()),
        ("unknown table", "[models]\nid = 1".to_owned()),
        ("no tables", "model = 3".to_owned()),
        ("no id", change("id = \"own\"\n", "")),
        ("id of another type", change("id = \"own\"", "id = 7")),
        ("id with spaces", change("id = \"own\"", "id = \"My Own\"")),
        ("twice", format!("{OWN}{OWN}")),
        ("a key misspelt", change("size_gb", "size_bg")),
        (
            "a key deeper misspelt",
            change("prompt_chars", "prompt_char"),
        ),
        ("a key missing", change("name = \"My own\"\n", "")),
        (
            "a key of a known entry misspelt",
            "[[model]]\nid = \"flux-dev\"\nstep = 3".to_owned(),
        ),
        ("wrong type", change("max = 50", "max = \"many\"")),
        ("negative", change("max = 50", "max = -1")),
        ("fraction", change("max = 50", "max = 1.5")),
        ("unknown family", change("\"flux\"", "\"sd9\"")),
        ("unknown category", change("\"specialized\"", "\"nice\"")),
        ("unknown sampler", change("\"euler\"", "\"dpm\"")),
        ("no sampler", change("[\"euler\"]", "[]")),
        (
            "default beyond the limit",
            change("default = 20", "default = 51"),
        ),
        (
            "limits the wrong way round",
            change("min = 1, max = 50", "min = 60, max = 50"),
        ),
        (
            "guidance not a number",
            change("max = 10, default = 3", "max = nan, default = 3"),
        ),
        (
            "size not a multiple",
            change(
                "width = 512, height = 512 }\npresets",
                "width = 500, height = 512 }\npresets",
            ),
        ),
        (
            "preset beyond",
            change(
                "label = \"1:1\", width = 512",
                "label = \"1:1\", width = 2048",
            ),
        ),
        ("multiple of zero", change("multiple = 16", "multiple = 0")),
        ("sizes beyond reason", change("max = 1024", "max = 100000")),
        ("size not finite", change("12.5", "inf")),
        ("relative path", change("/models/own", "own")),
        ("nowhere", change("path = \"/models/own\"\n", "")),
        (
            "a folder outside",
            change("path = \"/models/own\"", "folders = [\"../own\"]"),
        ),
        (
            "a licence page without TLS",
            change("path =", "approval_url = \"http://x\"\npath ="),
        ),
    ];
    let mut answers = String::new();
    for (name, text) in cases {
        let (folder, catalogue) = load(&text);
        let faults: Vec<String> = catalogue
            .faults()
            .iter()
            .map(|fault| {
                fault
                    .to_string()
                    .replace(folder.path().to_str().unwrap(), "")
            })
            .collect();
        assert!(!faults.is_empty(), "{name}");
        writeln!(answers, "{name}: {}", faults.join(" | ")).unwrap();
        // The other entries are there all the same, and so is one whose change was refused.
        for id in ["flux-schnell", "flux-dev"] {
            assert!(catalogue.model(&ModelId::new(id)).is_some(), "{name}");
        }
    }
    insta::assert_snapshot!(answers);
}
