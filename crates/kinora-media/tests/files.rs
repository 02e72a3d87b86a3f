//! Kinora's own files: written, read back, stripped, shrunk.

use kinora_core::{ImageFormat, Recipe, Seed};
use kinora_media::{
    ContactSheet, Error, MAX_PIXELS, Picture, SheetStyle, Source, decode, detect_format, encode,
    encode_jpeg, parse_infotext, probe, read_metadata, read_texts, strip_metadata, thumbnail,
    write_infotext, write_picture,
};

mod common;

const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];

#[test]
fn a_written_file_is_whole_and_tells_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let rgb = common::pixels(48, 32);
    for format in FORMATS {
        for prompt in [
            "a cat",
            "line one\nNegative prompt? no: \"quoted\", a,b <x> & 猫 🤖",
        ] {
            let path = folder.path().join(".part");
            let recipe = common::recipe(prompt);
            let artifact = write_picture(&path, &rgb, 48, 32, format, &recipe).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(artifact.bytes, bytes.len() as u64);
            assert_eq!(artifact.sha256, sha256(&bytes));
            assert_eq!(artifact.recipe, recipe);
            let header = probe(&bytes).unwrap();
            assert_eq!(
                (header.format, header.width, header.height),
                (format, 48, 32)
            );

            let found = read_metadata(&bytes).unwrap();
            assert_eq!(found.source, Source::Kinora);
            assert_eq!(found.recipe.as_deref(), Some(&recipe.for_file()));
            assert!(found.notes.is_empty());
            assert!(
                !String::from_utf8_lossy(&bytes).contains("someone"),
                "paths of the machine stay out"
            );
            let (request, notes) = found.to_request();
            assert_eq!(
                (request.prompt.as_str(), request.seed),
                (prompt, Some(Seed(u64::MAX)))
            );
            assert_eq!(request.model.as_ref().unwrap().as_str(), "starter");
            assert!(notes.is_empty());

            // The same infotext for everybody else.
            let (texts, _) = read_texts(&bytes).unwrap();
            let infotext = texts
                .iter()
                .find(|text| ["parameters", "UserComment"].contains(&text.key.as_str()))
                .unwrap();
            assert_eq!(infotext.value, write_infotext(&recipe));
        }
    }
}

#[test]
fn equal_pictures_are_equal_files() {
    let rgb = common::pixels(64, 64);
    for format in FORMATS {
        let mut later = common::recipe("x");
        later.timings = None;
        later.created_at = None;
        later.plan.model.root = "elsewhere".into();
        let files = [&common::recipe("x"), &later, &common::recipe("y")]
            .map(|recipe| encode(&rgb, 64, 64, format, recipe).unwrap());
        assert!(files[0] == files[1], "time and place leave no trace");
        assert!(files[0] != files[2]);
    }
}

#[test]
fn png_keeps_every_pixel_and_the_others_come_near() {
    let rgb: Vec<u8> = (0..64 * 64)
        .flat_map(|i: u32| [(i % 64 * 4) as u8, (i / 64 * 4) as u8, 128])
        .collect();
    for format in FORMATS {
        let picture = decode(&encode(&rgb, 64, 64, format, &common::recipe("x")).unwrap()).unwrap();
        let off: u64 = picture
            .rgb
            .iter()
            .zip(&rgb)
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        let mean = off as f64 / rgb.len() as f64;
        assert!(
            if format == ImageFormat::Png {
                off == 0
            } else {
                mean < 3.0
            },
            "{format:?}: {mean}"
        );
    }
}

#[test]
fn the_infotext_is_read_back_by_the_web_uis_rules() {
    let mut recipe = common::recipe("a cat,\n  on a mat");
    recipe.plan.negative_prompt = "dog".to_owned();
    recipe.plan.model.id = kinora_core::ModelId::new("weird: name, \"x\"");
    let text = write_infotext(&recipe);
    let found = parse_infotext(&text);
    assert_eq!(
        (found.prompt.as_str(), found.negative_prompt.as_str()),
        ("a cat,\non a mat", "dog")
    );
    for (key, value) in [
        ("Steps", "4"),
        ("Sampler", "Euler"),
        ("Schedule type", "Simple"),
        ("CFG scale", "1"),
        ("Distilled CFG Scale", "3.5"),
        ("Seed", "18446744073709551615"),
        ("Size-1", "48"),
        ("Size-2", "32"),
        ("Model hash", "0123456789"),
        ("Model", "weird: name, \"x\""),
        ("RNG", "CPU"),
        ("Version", "Kinora 0.1.0"),
    ] {
        assert_eq!(found.settings[key], value);
    }
    assert_eq!(
        found.resources["Hashes"],
        "{\"model\":\"0123456789\",\"vae\":\"fedcba9876\"}"
    );
    assert!(!write_infotext(&common::recipe("x")).contains("Negative prompt"));
}

#[test]
fn a_recipe_too_long_for_a_jpeg_segment_is_continued() {
    let prompt = "猫 🤖 & <b> ".repeat(20_000);
    let rgb = common::pixels(16, 16);
    for format in FORMATS {
        let bytes = encode(&rgb, 16, 16, format, &common::recipe(&prompt)).unwrap();
        let found = read_metadata(&bytes).unwrap();
        assert_eq!(found.recipe.unwrap().plan.prompt, prompt, "{format:?}");
        assert_eq!(decode(&bytes).unwrap().width, 16);
    }
}

#[test]
fn stripping_takes_the_settings_and_leaves_the_pixels() {
    let rgb = common::pixels(48, 32);
    for format in FORMATS {
        let bytes = encode(&rgb, 48, 32, format, &common::recipe("a secret")).unwrap();
        let stripped = strip_metadata(&bytes).unwrap();
        assert_eq!(read_metadata(&stripped).unwrap().source, Source::None);
        assert!(read_texts(&stripped).unwrap().0.is_empty());
        assert_eq!(decode(&stripped).unwrap(), decode(&bytes).unwrap());
        assert_eq!(
            strip_metadata(&stripped).unwrap(),
            stripped,
            "once is enough"
        );
        // What is hidden behind the end goes too.
        let tail = [bytes.as_slice(), b"hidden"].concat();
        assert_eq!(strip_metadata(&tail).unwrap(), stripped);
    }
}

#[test]
fn stripping_keeps_the_orientation() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    for name in ["rotated.jpg", "rotated.webp"] {
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let stripped = strip_metadata(&bytes).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("secret"));
        assert!(!String::from_utf8_lossy(&stripped).contains("secret"));
        assert_eq!(decode(&stripped).unwrap(), decode(&bytes).unwrap());
        // Tag 0x0112, one SHORT, 6.
        let tag = [1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6];
        assert!(
            stripped.windows(tag.len()).any(|window| window == tag),
            "{name}"
        );
    }
}

#[test]
fn thumbnails_keep_the_shape_and_never_grow() {
    for (width, height, longest, expected) in [
        (1000, 500, 256, (256, 128)),
        (300, 900, 512, (171, 512)),
        (40, 30, 256, (40, 30)),
        (3000, 1, 256, (256, 1)),
    ] {
        let bytes = encode_jpeg(
            &vec![90; width * height * 3],
            width as u32,
            height as u32,
            90,
        )
        .unwrap();
        let small = probe(&thumbnail(&bytes, longest).unwrap()).unwrap();
        assert_eq!((small.width, small.height), expected);
    }
    let grey = decode(
        &thumbnail(
            &encode(
                &[90; 600 * 600 * 3],
                600,
                600,
                ImageFormat::Png,
                &common::recipe("x"),
            )
            .unwrap(),
            256,
        )
        .unwrap(),
    )
    .unwrap();
    assert!(grey.rgb.iter().all(|value| value.abs_diff(90) <= 2));
}

#[test]
fn a_contact_sheet_shows_every_picture_and_its_caption() {
    let mut sheet = ContactSheet::new("prompts.csv, 5 pictures", 5, SheetStyle::default()).unwrap();
    let colours = [[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]];
    for (index, colour) in colours.iter().enumerate() {
        sheet
            .add(
                Some(Picture::filled(400, 300, *colour)),
                &format!("{index} seed 42 猫"),
            )
            .unwrap();
    }
    sheet.add(None, "5 failed").unwrap();
    sheet
        .add(Some(Picture::filled(10, 10, [1, 2, 3])), "not announced")
        .unwrap();
    let picture = sheet.finish();
    let count = |colour: [u8; 3]| {
        picture
            .rgb
            .chunks_exact(3)
            .filter(|pixel| **pixel == colour)
            .count()
    };
    for colour in colours {
        assert_eq!(count(colour), 320 * 240);
    }
    assert_eq!(count(SheetStyle::default().empty), 320 * 320);
    assert_eq!(count([1, 2, 3]), 0);
    let ink = count(SheetStyle::default().text);
    assert!((500..20_000).contains(&ink), "{ink}");
    assert_eq!(
        picture.rgb.len(),
        (picture.width * picture.height * 3) as usize
    );
    // A thousand fit one sheet of bounded size; too many are refused.
    let large = ContactSheet::new("", 1000, SheetStyle::default())
        .unwrap()
        .finish();
    assert!(u64::from(large.width) * u64::from(large.height) <= 40_000_000);
    assert!(matches!(
        ContactSheet::new("", u32::MAX, SheetStyle::default()),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn what_cannot_be_encoded_is_refused_with_a_reason() {
    let recipe = common::recipe("x");
    for (rgb, width, height) in [(vec![], 0, 5), (vec![0; 3], 1, 2), (vec![0; 5], 1, 1)] {
        for format in FORMATS {
            assert!(matches!(
                encode(&rgb, width, height, format, &recipe),
                Err(Error::Encode { .. })
            ));
        }
    }
    let wide = vec![0; 16_384 * 3];
    assert!(matches!(
        encode(&wide, 16_384, 1, ImageFormat::Webp, &recipe),
        Err(Error::Encode { .. })
    ));
    assert!(encode(&wide, 16_384, 1, ImageFormat::Jpeg, &recipe).is_ok());
    let missing = std::path::Path::new("/nowhere/at/all/x.png");
    let error = write_picture(missing, &[0; 3], 1, 1, ImageFormat::Png, &recipe).unwrap_err();
    assert!(matches!(&error, Error::Write { path, .. } if path == missing));
    assert!(!error.is_disk_full());
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_memory_is_taken() {
    let mut png = encode(&[0; 3], 1, 1, ImageFormat::Png, &common::recipe("x")).unwrap();
    png[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&100_000_u32.to_be_bytes());
    const { assert!(10_000_000_000 > MAX_PIXELS) };
    assert!(matches!(
        decode(&png),
        Err(Error::TooLarge {
            width: 100_000,
            height: 100_000,
            ..
        })
    ));
    assert!(matches!(decode(b"GIF89a"), Err(Error::UnsupportedFile)));
    assert_eq!(detect_format(b""), None);
}

#[test]
fn transparency_is_laid_over_white() {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 2, 1);
    encoder.set_color(png::ColorType::Rgba);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[10, 20, 30, 255, 10, 20, 30, 0])
        .unwrap();
    assert_eq!(decode(&png).unwrap().rgb, [10, 20, 30, 255, 255, 255]);
}

#[test]
fn a_recipe_alone_is_understood() {
    let recipe: Recipe = common::recipe("from a file").for_file();
    let found = kinora_media::read_settings_text(&serde_json::to_string(&recipe).unwrap());
    assert_eq!(
        (found.source, found.recipe.as_deref()),
        (Source::Kinora, Some(&recipe))
    );
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// EXIF with nothing but how the camera was held: 1 is upright, 6 a quarter turn to the right.
fn exif(orientation: u16) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend(0x0112_u16.to_le_bytes());
    exif.extend(3_u16.to_le_bytes());
    exif.extend(1_u32.to_le_bytes());
    exif.extend(orientation.to_le_bytes());
    exif.extend([0; 6]);
    exif
}

/// A JPEG of 32 × 16 pixels whose left half is black and whose upper right quarter is grey, held in
/// one of the ways that cameras tell.
fn photo(orientation: u16) -> Vec<u8> {
    let pixels: Vec<u8> = (0..32 * 16)
        .flat_map(|i| match (i % 32 < 16, i / 32 < 8) {
            (true, _) => [0; 3],
            (false, true) => [128; 3],
            (false, false) => [255; 3],
        })
        .collect();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
        .encode(&pixels, 32, 16, image::ExtendedColorType::Rgb8)
        .unwrap();
    let exif = exif(orientation);
    let mut photo = jpeg[..2].to_vec();
    photo.extend([0xff, 0xe1]);
    photo.extend((exif.len() as u16 + 2).to_be_bytes());
    photo.extend(exif);
    photo.extend(&jpeg[2..]);
    photo
}

/// The corners of a picture, from the upper left clockwise, as black, grey and white.
fn corners(picture: &kinora_media::Picture) -> String {
    let (right, bottom) = (picture.width as usize - 1, picture.height as usize - 1);
    [(0, 0), (right, 0), (right, bottom), (0, bottom)]
        .map(
            |(x, y)| match picture.rgb[3 * (y * picture.width as usize + x)] {
                0..60 => 'b',
                60..200 => 'g',
                200.. => 'w',
            },
        )
        .iter()
        .collect()
}

#[test]
fn a_photo_stands_as_the_camera_was_held() {
    for (orientation, upright) in [
        (1, "bgwb"),
        (2, "gbbw"),
        (3, "wbbg"),
        (4, "bwgb"),
        (5, "bbwg"),
        (6, "bbgw"),
        (7, "wgbb"),
        (8, "gwbb"),
        // Nonsense turns nothing.
        (0, "bgwb"),
        (99, "bgwb"),
    ] {
        let photo = photo(orientation);
        let picture = kinora_media::decode(&photo).unwrap();
        let size = if (5..=8).contains(&orientation) {
            (16, 32)
        } else {
            (32, 16)
        };
        assert_eq!((picture.width, picture.height), size, "{orientation}");
        assert_eq!(corners(&picture), upright, "{orientation}");
        // Small copies stand upright too, and do not say that they were held otherwise.
        let small = kinora_media::thumbnail(&photo, 16).unwrap();
        let small = kinora_media::decode(&small).unwrap();
        assert_eq!((small.width, small.height), (size.0 / 2, size.1 / 2));
        assert_eq!(corners(&small), upright, "{orientation}, small");
    }
}
