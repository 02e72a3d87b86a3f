//! What pictures are made from besides words: other pictures, and LoRA files.

use super::*;

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
