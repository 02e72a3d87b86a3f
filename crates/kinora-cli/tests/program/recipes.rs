//! Recipes: pictures are made again with the same bytes, and files are compared with them.

use super::*;

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
