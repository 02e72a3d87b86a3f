//! The program as people run it: arguments in, text, JSON, files and an exit code out. The engine and
//! the built-in model are real.
//!
//! Needs the program `kinora-engine` beside `kinora`: `cargo test --workspace` builds both.

mod server;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use kinora_core::ImageFormat;
use serde_json::{Value, json};

use server::Server;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const WRONG_INPUT: i32 = 2;
const NOT_FOUND: i32 = 3;
const NO_ROOM: i32 = 4;
const PARTLY: i32 = 5;
const DIFFERS: i32 = 7;
const INTERRUPTED: i32 = 130;

/// A data folder, and the program on it.
struct Studio(tempfile::TempDir);

impl Studio {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_kinora"));
        assert!(
            program.with_file_name("kinora-engine").exists(),
            "kinora-engine is not built: run `cargo build -p kinora-engine` first"
        );
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env("KINORA_DATA_DIR", self.folder().join("data"))
            .stdin(Stdio::null());
        for variable in ["TOKEN", "HOST", "PORT", "MODELS_DIR", "OUTPUTS_DIR", "LOG"] {
            command.env_remove(format!("KINORA_{variable}"));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    /// Runs, expects success, and reads the JSON on standard output.
    fn ask(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code(), DONE, "{arguments:?}: {}", ran.errors());
        ran.json()
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder().join("data/outputs").join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

/// How the program ended.
struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.text(), self.errors()))
    }
}

fn part(verification: &Value, name: &str) -> Value {
    let parts = verification["parts"].as_array().unwrap();
    let found = parts.iter().find(|part| part["part"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {verification:#}"))
        .clone()
}

/// Makes a PNG, a JPEG and a WebP in one group, and a picture of its own.
fn paint(studio: &Studio) -> [PathBuf; 4] {
    let list = studio.write(
        "list.csv",
        "prompt,seed,format,output\n\
         a red house by the sea,5,png,in-a-list\n\
         a blue lighthouse at night,6,jpeg,in-a-list\n\
         a forest in the snow,7,webp,in-a-list\n",
    );
    let look = ["--size", "128x128", "--steps", "4", "-q"];
    let ran = studio.run(&[&["bulk", &list][..], &look].concat());
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let single = ["generate", "a red house by the sea", "--seed", "5"];
    let ran = studio.run(&[&single[..], &["--output", "alone"], &look].concat());
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let group = studio.ask(&["assets", "list"]);
    let sizes = group["assets"].as_array().unwrap().iter();
    let mut sizes: Vec<u64> = sizes
        .map(|asset| asset["recipe"]["timings"]["batch"].as_u64().unwrap())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 3, 3], "the list went through as one group");
    [
        "in-a-list.png",
        "in-a-list.jpg",
        "in-a-list.webp",
        "alone.png",
    ]
    .map(|name| studio.output(name))
}

#[test]
fn a_picture_is_made_again_with_the_same_bytes_whether_it_came_alone_or_in_a_list() {
    let studio = Studio::new();
    let pictures = paint(&studio);
    for picture in &pictures {
        let ran = studio.run(&["run", picture.to_str().unwrap(), "-q"]);
        assert_eq!(ran.code(), DONE, "{}", ran.errors());
        let again = PathBuf::from(ran.text().trim());
        assert_ne!(&again, picture);
        assert!(
            fs::read(picture).unwrap() == fs::read(&again).unwrap(),
            "{} is not {}",
            again.display(),
            picture.display()
        );
    }
    // The same request alone and in a list: the same file.
    assert!(fs::read(&pictures[0]).unwrap() == fs::read(&pictures[3]).unwrap());
}

#[test]
fn pictures_are_started_from_and_made_again() {
    let studio = Studio::new();
    let look = ["--size", "128x128", "--steps", "4", "-q"];
    let first = [
        "generate",
        "a red house by the sea",
        "--seed",
        "5",
        "--output",
        "first",
    ];
    assert_eq!(studio.run(&[&first[..], &look].concat()).code(), DONE);
    let first = studio.output("first.png");
    let from = |name: &str, more: &[&str]| {
        let image = first.to_str().unwrap();
        let start = [
            "generate",
            "the same by night",
            "--image",
            image,
            "--seed",
            "6",
        ];
        let named = ["--output", name];
        let ran = studio.run(&[&start[..], &named, more, &look].concat());
        assert_eq!(ran.code(), DONE, "{}", ran.errors());
        studio.output(&format!("{name}.png"))
    };
    let changed = from("changed", &["--strength", "0.6"]);
    assert!(fs::read(&changed).unwrap() != fs::read(&first).unwrap());
    // The recipe names the picture by its content, and makes the same bytes again.
    let ran = studio.run(&["run", changed.to_str().unwrap(), "-q"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let again = PathBuf::from(ran.text().trim());
    assert!(fs::read(&changed).unwrap() == fs::read(&again).unwrap());

    // A picture is a mask of itself: what is bright in it is painted anew.
    let image = first.to_str().unwrap();
    let painted = from("painted", &["--mask", image]);
    let size = |path: &PathBuf| {
        let picture = kinora_media::decode(&fs::read(path).unwrap()).unwrap();
        (picture.width, picture.height)
    };
    assert_eq!(size(&painted), size(&first));

    // In a list, pictures lie beside it.
    fs::copy(&first, studio.folder().join("list-picture.png")).unwrap();
    let list = studio.write(
        "images.csv",
        "prompt,image,strength,output\na hill,list-picture.png,0.5,row-1\na tree,,,row-2\n",
    );
    let ran = studio.run(&[&["bulk", &list][..], &look].concat());
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let listed = studio.ask(&["assets", "list"]);
    let row = listed["assets"].as_array().unwrap().iter();
    let row = row
        .clone()
        .find(|asset| asset["path"] == "row-1.png")
        .unwrap();
    assert_eq!(row["recipe"]["plan"]["mode"], "image_to_image");
    let missing = studio.write("missing.csv", "prompt,image\na hill,nowhere.png\n");
    let ran = studio.run(&[&["bulk", &missing][..], &look].concat());
    assert_ne!(ran.code(), DONE);
    assert!(ran.errors().contains("nowhere.png"), "{}", ran.errors());
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The tiny model of a recorded case as `flux-redux`, its base beside it.
fn add_redux(studio: &Studio) {
    let case =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases/flux_redux_heldout");
    let models = studio.folder().join("data/models");
    copy_folder(&case.join("model"), &models.join("FLUX.1-Redux-dev"));
    copy_folder(&case.join("FLUX.1-dev"), &models.join("FLUX.1-dev"));
}

#[test]
fn several_pictures_are_varied_with_and_without_words() {
    let studio = Studio::new();
    add_redux(&studio);
    let case =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases/flux_redux_heldout");
    let [first, second] = ["inputs/image0.png", "inputs/image1.png"]
        .map(|name| case.join(name).display().to_string());
    let look = [
        "--model",
        "flux-redux",
        "--size",
        "256x256",
        "--steps",
        "2",
        "--seed",
        "3",
        "-q",
    ];
    let vary = |name: &str, more: &[&str]| {
        let all = [&["generate"][..], more, &look, &["--output", name]].concat();
        let ran = studio.run(&all);
        assert_eq!(ran.code(), DONE, "{}", ran.errors());
        PathBuf::from(ran.text().trim())
    };
    let one = vary("one", &["--image", &first]);
    let both = ["--image", &first, "--image", &second];
    let two = [&both[..], &["--strength", "0.6", "--strength", "0.4"]].concat();
    let two = vary("two", &two);
    let told = [&["at night"][..], &both, &["--strength", "0.5"]].concat();
    let told = vary("told", &told);
    let bytes = [&one, &two, &told].map(|path| fs::read(path).unwrap());
    assert!(bytes[0] != bytes[1] && bytes[1] != bytes[2]);

    let listed = studio.ask(&["assets", "list"]);
    let plan_of = |file: &str| {
        let assets = listed["assets"].as_array().unwrap().iter();
        let mut found = assets.filter(|asset| asset["path"] == file);
        found.next().unwrap()["recipe"]["plan"].clone()
    };
    let plan = plan_of("two.png");
    assert_eq!(
        (&plan["mode"], &plan["prompt"]),
        (&json!("variation"), &json!(""))
    );
    let source = &plan["source"];
    assert_eq!(source["image"]["sha256"].as_str().unwrap().len(), 64);
    assert!((source["strength"].as_f64().unwrap() - 0.6).abs() < 1e-6);
    assert!((source["more_images"][0]["strength"].as_f64().unwrap() - 0.4).abs() < 1e-6);
    let plan = plan_of("told.png");
    assert_eq!(plan["source"]["more_images"][0]["strength"], 0.5);

    // The recipe inside gives the same bytes again.
    let ran = studio.run(&["run", two.to_str().unwrap(), "-q"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    assert!(fs::read(ran.text().trim()).unwrap() == bytes[1]);

    for (arguments, word) in [
        (&["x"][..], "picture"),
        (&["--image", &first, "--strength", "3"], "strength"),
        (
            &["--image", &first, "--strength", "1", "--strength", "1"],
            "strengths",
        ),
        (&["--image", &first].repeat(6), "pictures"),
    ] {
        let ran = studio.run(&[&["generate"][..], arguments, &look].concat());
        assert_eq!(ran.code(), WRONG_INPUT, "{arguments:?}: {}", ran.errors());
        assert!(ran.errors().contains(word), "{}", ran.errors());
    }
}

#[test]
fn a_lora_that_is_a_pickle_or_missing_is_refused_with_words() {
    let studio = Studio::new();
    let folder = studio.folder().join("data/models/loras");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("old.safetensors"), b"\x80\x02}q\x00.").unwrap();
    for (name, word) in [("old", "pickle"), ("nothing", "nothing"), ("../x", "../x")] {
        let ran = studio.run(&["generate", "a hill", "--lora", name, "-q"]);
        assert_ne!(ran.code(), DONE);
        assert!(ran.errors().contains(word), "{}", ran.errors());
    }
}

#[test]
fn lora_files_are_listed_and_checked_before_anything_runs() {
    let studio = Studio::new();
    let folder = studio.folder().join("data/models/loras");
    fs::create_dir_all(&folder).unwrap();
    // One layer of the built-in model, and one of another.
    let config = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = config.join("../../starter/image/transformer/config.json");
    let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    let size = |name: &str| config[name].as_u64().unwrap() as usize;
    let width = size("attention_head_dim") * size("num_attention_heads");
    let layer = "transformer.single_transformer_blocks.0.attn.to_q";
    for (name, layer, width) in [
        ("ink", layer, width),
        (
            "dusk_high_noise",
            "diffusion_model.blocks.0.self_attn.q",
            5120,
        ),
    ] {
        let mut header = serde_json::Map::new();
        let bytes = 4 * width;
        for (i, (side, shape)) in [("A", [1, width]), ("B", [width, 1])]
            .into_iter()
            .enumerate()
        {
            header.insert(
                format!("{layer}.lora_{side}.weight"),
                json!({ "dtype": "F32", "shape": shape,
                        "data_offsets": [i * bytes, (i + 1) * bytes] }),
            );
        }
        let header = Value::from(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(vec![0; 2 * bytes]);
        fs::write(folder.join(format!("{name}.safetensors")), file).unwrap();
    }
    let list = studio.ask(&["loras", "list"]);
    assert_eq!(list["loras"][0]["name"], "dusk_high_noise");
    assert_eq!(list["loras"][0]["expert"], "high");
    assert_eq!(list["loras"][1]["base"], "FLUX.1");
    assert!(studio.run(&["loras", "list"]).text().contains("high noise"));

    let ran = studio.run(&["loras", "check", "--model", "starter"]);
    assert_eq!(ran.code(), PARTLY);
    let text = ran.text();
    assert!(text.contains("ink") && text.contains("2 of 2"), "{text}");
    assert!(text.contains("it was made for Wan"), "{text}");
    let one = studio.ask(&["loras", "check", "ink", "--model", "starter"]);
    assert_eq!(one[0]["check"]["applied"], 2, "{one:#}");
    let missing = studio.run(&["loras", "check", "gone", "--model", "starter"]);
    assert_eq!(missing.code(), NOT_FOUND);
}

#[test]
fn verify_says_for_each_part_whether_it_is_the_same() {
    let studio = Studio::new();
    let pictures = paint(&studio);
    for picture in &pictures {
        let picture = picture.to_str().unwrap();
        let verification = studio.ask(&["verify", picture]);
        assert_eq!(verification["is_same"], true, "{verification:#}");
        for name in ["build", "numerics", "model", "weights/transformer"] {
            assert_eq!(part(&verification, name)["is_same"], true);
        }
        let rendered = studio.ask(&["verify", picture, "--render"]);
        assert_eq!(rendered["is_same"], true, "{rendered:#}");
        for name in ["pixels", "bytes"] {
            assert_eq!(part(&rendered, name)["is_same"], true);
        }
    }
    let ran = studio.run(&["verify", pictures[1].to_str().unwrap()]);
    let text = ran.text();
    assert!(
        text.contains("weights/vae") && text.contains("same"),
        "{text}"
    );
    assert!(!text.contains("DIFFERS"), "{text}");

    // Another seed in the recipe than the one that the picture was painted with.
    let bytes = fs::read(&pictures[0]).unwrap();
    let painted = kinora_media::decode(&bytes).unwrap();
    let mut recipe = *kinora_media::read_metadata(&bytes).unwrap().recipe.unwrap();
    recipe.plan.seed.0 += 1;
    let (width, height) = (painted.width, painted.height);
    let forged =
        kinora_media::encode(&painted.rgb, width, height, ImageFormat::Png, &recipe).unwrap();
    let forged = studio.write("forged.png", forged);
    assert_eq!(studio.run(&["verify", &forged]).code(), DONE);
    let ran = studio.run(&["verify", &forged, "--render", "--json"]);
    assert_eq!(ran.code(), DIFFERS, "{}", ran.errors());
    let pixels = part(&ran.json(), "pixels");
    assert_eq!(pixels["is_same"], false);
    let difference = pixels["actual"].as_str().unwrap();
    assert!(
        difference.contains("values differ, by at most"),
        "{difference}"
    );

    // Other weights and another build than those of the recipe.
    recipe.kinora = "0.0.1".to_owned();
    recipe.plan.model.weights[0].sha256 = Some("0".repeat(64));
    let loose = studio.write("recipe.json", serde_json::to_vec(&recipe).unwrap());
    let ran = studio.run(&["verify", &loose]);
    assert_eq!(ran.code(), DIFFERS, "{}", ran.errors());
    let different = ran.text();
    let different: Vec<&str> = different
        .lines()
        .filter(|line| line.contains("DIFFERS"))
        .collect();
    assert_eq!(different.len(), 2, "{different:?}");
    assert!(different[0].starts_with("build") && different[0].contains("0.0.1 in the file"));
    assert!(different[1].starts_with("weights/"));
    let ran = studio.run(&["run", &loose]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(ran.errors().contains("build was 0.0.1"), "{}", ran.errors());
    // A recipe alone has nothing to be compared with.
    assert_eq!(
        studio.run(&["verify", &loose, "--render"]).code(),
        WRONG_INPUT
    );
}

#[test]
fn verify_refuses_what_carries_no_recipe() {
    let studio = Studio::new();
    let plain = kinora_media::encode_jpeg(&[90; 8 * 8 * 3], 8, 8, 90).unwrap();
    for (file, code) in [
        (studio.write("plain.jpg", plain), FAILED),
        (studio.write("text.png", "no picture"), FAILED),
        (studio.write("other.json", "{\"recipe\": 1}"), FAILED),
        (studio.write("empty.png", ""), FAILED),
        ("nowhere.png".to_owned(), NOT_FOUND),
        (studio.folder().display().to_string(), FAILED),
    ] {
        for command in ["verify", "run"] {
            let ran = studio.run(&[command, &file]);
            assert_eq!(ran.code(), code, "{command} {file}: {}", ran.errors());
            assert!(ran.errors().starts_with("kinora: "), "{}", ran.errors());
            assert_eq!(ran.text(), "");
        }
    }
}

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
fn whoever_stops_reading_stops_nothing() {
    let studio = Studio::new();
    for arguments in [
        &["jobs", "list"][..],
        &["models", "list", "--json"],
        &["config", "show"],
        &["completions", "bash"],
        &["generate", "a red house", "--size", "128x128"],
    ] {
        let mut child = studio
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        assert_eq!(child.wait().unwrap().code(), Some(DONE), "{arguments:?}");
    }
    // Nobody reads the progress either.
    let mut child = studio
        .command(&["generate", "a red house", "--size", "128x128"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(DONE));
    let assets = studio.ask(&["assets", "list"]);
    assert_eq!(assets["total"], 2);
}

#[test]
fn a_disk_that_is_full_fails_what_has_no_room_and_nothing_else() {
    let studio = Studio::new();
    // An engine that may write no file of more than 20 KiB: the small pictures fit.
    let engine = PathBuf::from(env!("CARGO_BIN_EXE_kinora")).with_file_name("kinora-engine");
    let script = format!(
        "#!/bin/bash\ntrap '' XFSZ\nulimit -f 20\nexec '{}' \"$@\"\n",
        engine.display()
    );
    let cramped = studio.write("cramped-engine", script);
    let mut mode = fs::metadata(&cramped).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&cramped, mode).unwrap();
    let list = studio.write(
        "list.csv",
        "prompt,size,steps,seed,output\n\
         a red house by the sea,128x128,2,1,small-one\n\
         a red house by the sea,512x512,2,2,large\n\
         a red house by the sea,128x128,2,3,small-two\n",
    );
    let ran = studio.run(&["bulk", &list, "--engine", &cramped]);
    assert_eq!(ran.code(), PARTLY, "{}", ran.errors());
    let told = ran.errors();
    let told = told.lines().find(|line| line.contains("line 3")).unwrap();
    assert!(
        told.contains("File too large") && told.contains("Free some room"),
        "{told}"
    );
    let jobs = studio.ask(&["jobs", "list", "--state", "failed"]);
    assert_eq!(jobs["total"], 1);
    let failure = &jobs["jobs"][0]["failure"];
    assert_eq!(failure["code"], "disk_full");
    assert_eq!(failure["stage"], "saving");
    assert_eq!(failure["fix"]["kind"], "free_disk");
    let mut files: Vec<_> = fs::read_dir(studio.folder().join("data/outputs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["small-one.png", "small-two.png"],
        "and no part of a third"
    );

    // A single picture without room has an exit code of its own; with room, retrying is enough.
    let large = [
        "generate", "a house", "--size", "512x512", "--steps", "2", "-q",
    ];
    let ran = studio.run(&[&large[..], &["--engine", &cramped]].concat());
    assert_eq!(ran.code(), NO_ROOM, "{}", ran.errors());
    assert_eq!(studio.ask(&["jobs", "retry", "--fix"])["jobs"], 2);
    assert_eq!(studio.run(&["jobs", "watch"]).code(), DONE);
    assert!(studio.output("large.png").exists());
}

#[test]
fn a_data_folder_that_takes_no_note_can_still_be_cleaned_up() {
    let studio = Studio::new();
    assert_eq!(studio.run(&["jobs", "list"]).code(), DONE);
    // As on a full disk: the note of where this process answers cannot be written.
    fs::create_dir(studio.folder().join("data/instance.json.part")).unwrap();
    let ran = studio.run(&["cleanup", "--all"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    assert!(
        ran.errors().contains("do not find this one"),
        "{}",
        ran.errors()
    );
    assert!(ran.text().contains("removed"));
}

#[test]
fn ctrl_c_leaves_the_queue_and_the_next_start_goes_on() {
    let studio = Studio::new();
    let mut child = studio
        .command(&["bulk", "-", "--size", "256x256", "--steps", "50"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    list.write_all(b"a red house\na blue house\na green house\na white house\na fifth house\n")
        .unwrap();
    drop(list);
    // The first picture is finished: the others are queued or running.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = lines.by_ref().map(|line| line.unwrap());
    assert!(seen.any(|line| line.contains("[1/5]") && line.contains("done")));
    server::signal("-INT", child.id());
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert!(
        rest.iter().any(|line| line.contains("stays queued")),
        "{rest:?}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED));
    let ran = studio.run(&["jobs", "watch"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let jobs = studio.ask(&["jobs", "list"]);
    let states: Vec<&Value> = jobs["jobs"].as_array().unwrap().iter().collect();
    assert_eq!(states.len(), 5);
    assert!(states.iter().all(|job| job["state"] == "done"), "{jobs:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_to_the_hosts_and_origins_of_its_configuration() {
    let studio = Studio::new();
    let data = studio.folder().join("data");
    fs::create_dir_all(&data).unwrap();
    let file = "allowed_hosts = [\"proxy.example\"]\n";
    fs::write(data.join("config.toml"), file).unwrap();
    let origin = "https://pages.example";
    let server = Server::start_with(&data, &["--trusted-origins", origin]).await;
    let ask = async |host: &str, origin: Option<&str>| {
        let request = server.client().get(format!("{}/api/queue", server.url()));
        let mut request = request.header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("proxy.example", None).await, 200);
    assert_eq!(
        ask("proxy.example:443", Some("https://proxy.example:443")).await,
        200
    );
    assert_eq!(ask("other.example", None).await, 403);
    assert_eq!(ask("localhost", Some(origin)).await, 200);
    assert_eq!(ask("localhost", Some("https://other.example")).await, 403);
    // Commands of the same machine go through the server, and see its configuration.
    let shown = server.get("/api/config").await;
    let values = shown["values"].as_array().unwrap();
    let value = |key: &str| values.iter().find(|value| value["key"] == key).unwrap();
    assert_eq!(value("allowed_hosts")["value"], "proxy.example");
    assert_eq!(value("allowed_hosts")["source"], "file");
    assert_eq!(value("trusted_origins")["source"], "flag");
    server.stop().await;
    let ran = studio.run(&["serve", "--allowed-hosts", "https://a", "--port", "0"]);
    assert_eq!(ran.code(), WRONG_INPUT);
    assert!(ran.errors().contains("--allowed-hosts"), "{}", ran.errors());
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

#[test]
fn drafts_are_made_full_and_clips_need_a_model_that_makes_them() {
    let studio = Studio::new();
    // The models that ship make clips or not: what is asked of one that makes pictures is refused.
    let ran = studio.run(&["video", "the sun sets", "--model", "starter"]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(
        ran.errors().contains("makes pictures, not clips"),
        "{}",
        ran.errors()
    );
    let ran = studio.run(&["video"]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    let look = ["--size", "128x128", "--steps", "4", "-q"];
    let ran = studio.run(&[&["generate", "a red house"][..], &look].concat());
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let assets = studio.ask(&["assets", "list"]);
    let id = assets["assets"][0]["id"].as_str().unwrap();
    let ran = studio.run(&["video", "--full", id]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(ran.errors().contains("is no draft"), "{}", ran.errors());
    let picture = format!("asset:{id}");
    let ran = studio.run(&[
        "video", "--image", &picture, "--model", "starter", "--draft",
    ]);
    assert_eq!(ran.code(), WRONG_INPUT, "{}", ran.errors());
    assert!(
        ran.errors().contains("makes no clips from pictures"),
        "{}",
        ran.errors()
    );
}

/// A catalogue entry for the tiny clip model of a recorded case.
fn add_tiny_video(studio: &Studio) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tools/goldens/cases/wan22_ti2v_5b_i2v_heldout/model");
    let model = model.canonicalize().unwrap();
    fs::create_dir_all(studio.folder().join("data")).unwrap();
    let entry = format!(
        r#"
[[model]]
id = "tiny-video"
name = "Tiny Video"
family = "wan"
variant = "2.2-ti2v-5b"
path = {model:?}
category = "video"
tags = ["video"]
description = "For tests."
size_gb = 0.01

[model.capabilities]
modes = ["image_to_video", "text_to_video"]
steps = {{ min = 1, max = 100, default = 10 }}
true_cfg = {{ min = 1.0, max = 20.0, default = 3.0 }}
cfg_always = true
copies = {{ min = 1, max = 8, default = 1 }}
prompt_chars = 2000
text_tokens = 512
samplers = ["unipc"]
schedules = ["automatic"]

[model.capabilities.video]
frames = {{ min = 1, max = 121, default = 17 }}
frame_step = 4
fps = {{ min = 1, max = 60, default = 4 }}

[model.capabilities.size]
min = 64
max = 512
multiple = 32
default = {{ width = 64, height = 64 }}
presets = []
"#
    );
    studio.write("data/models.toml", entry);
}

#[test]
fn a_clip_is_drafted_made_full_and_verified_frame_by_frame() {
    let studio = Studio::new();
    add_tiny_video(&studio);
    let model = ["--model", "tiny-video", "--seed", "7"];
    let drafted = studio.ask(&[&["video", "the sun sets", "--draft"][..], &model].concat());
    let draft = &drafted["assets"][0];
    assert_eq!(draft["clip"]["frames"], 9);
    assert_eq!(draft["recipe"]["plan"]["steps"], 8);
    let id = draft["id"].as_str().unwrap();
    let full = studio.ask(&["video", "--full", id]);
    let full = &full["assets"][0];
    assert_eq!(full["clip"]["frames"], 17);
    assert_eq!(full["recipe"]["plan"]["parent"], id);
    assert_eq!(full["recipe"]["plan"]["seed"], 7);

    let file = studio.output(full["path"].as_str().unwrap());
    let verification = studio.ask(&["verify", &file.display().to_string(), "--render"]);
    let frames = part(&verification, "frames");
    assert!(
        frames["expected"]
            .as_str()
            .unwrap()
            .starts_with("17 frames of 64×64 "),
        "{frames}"
    );
    assert_eq!(part(&verification, "bytes")["is_same"], true);

    // The sheet of a list shows a frame of each clip.
    let list = studio.write(
        "list.csv",
        "prompt,model,frames,steps,output\nthe sea,tiny-video,5,2,sea\n",
    );
    let answer = studio.ask(&["bulk", &list, "--contact-sheet"]);
    let sheet = fs::read(answer["contact_sheet"].as_str().unwrap()).unwrap();
    let sheet = kinora_media::decode(&sheet).unwrap();
    let colours: std::collections::HashSet<[u8; 3]> =
        sheet.rgb.as_chunks::<3>().0.iter().copied().collect();
    assert!(colours.len() > 300, "{} colours", colours.len());
}
