//! Plans that start from pictures, and plans of clips, through the real engine.

use std::fs;

use kinora_core::{
    AssetKind, ClipFormat, Code, FileFormat, Mode, Plan, PlannedImage, PlannedPicture,
    PlannedSource, Sampler, Schedule, Size, Stage, StagePart, VideoPlan, Work, engine::Report,
};
use kinora_weights::{RunSize, recognise};

use crate::process::{
    Engine, artifact, case, copy_model, failure, keep_picture, next_attempt, picture, plan,
    starter, work,
};

const PLENTY: u64 = 8 << 30;

fn pixels(path: &std::path::Path) -> kinora_media::Picture {
    kinora_media::decode(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_picture_is_changed_as_far_as_the_strength_says() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(folder.path(), "source.png", (128, 96));
    let start_from = |strength| Plan {
        mode: Mode::ImageToImage,
        source: Some(PlannedSource {
            image: image.clone(),
            mask: None,
            strength: Some(strength),
            more_images: Vec::new(),
            end_image: None,
        }),
        size: Size {
            width: 128,
            height: 96,
        },
        ..plan(&starter(), "a red house by the sea", 6)
    };
    let works = [start_from(0.2), start_from(0.95)].map(|plan| work(folder.path(), plan));
    let mut engine = Engine::start(&[]);
    let mut distances = Vec::new();
    for work in &works {
        let reports = engine.run(std::slice::from_ref(work), PLENTY);
        let made = artifact(&reports, work);
        assert!(made.recipe.plan.source.is_some());
        let text = serde_json::to_string(&made.recipe).unwrap();
        assert!(!text.contains("source.png"), "no path in {text}");
        let (old, new) = (pixels(&image.path), pixels(&work.staging));
        let sum: u64 = (old.rgb.iter().zip(&new.rgb))
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        distances.push(sum);
    }
    assert!(distances[0] < distances[1], "{distances:?}");
}

#[test]
fn outside_of_a_mask_the_bytes_of_the_source_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (width, height) = (200, 150);
    let image = picture(folder.path(), "source.png", (width, height));
    let is_new = |x: u32, y: u32| (80..120).contains(&x) && (60..90).contains(&y);
    let mask: Vec<u8> = (0..width * height)
        .flat_map(|i| [if is_new(i % width, i / width) { 255 } else { 0 }; 3])
        .collect();
    let mask = keep_picture(folder.path(), "mask.png", &mask, (width, height));
    let job = work(
        folder.path(),
        Plan {
            mode: Mode::Inpaint,
            source: Some(PlannedSource {
                image: image.clone(),
                mask: Some(mask),
                strength: Some(1.0),
                more_images: Vec::new(),
                end_image: None,
            }),
            ..plan(&starter(), "a red house", 3)
        },
    );
    let mut engine = Engine::start(&[]);
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    let made = artifact(&reports, &job);
    assert_eq!((made.width, made.height), (width, height), "of the source");
    let (old, new) = (pixels(&image.path), pixels(&job.staging));
    let mut changed = 0;
    for i in 0..(width * height) as usize {
        let (x, y) = (i as u32 % width, i as u32 / width);
        let same = old.rgb[3 * i..3 * i + 3] == new.rgb[3 * i..3 * i + 3];
        let is_far = !(70..130).contains(&x) || !(50..100).contains(&y);
        assert!(same || !is_far, "{x} {y} is far from the mask");
        changed += usize::from(!same);
    }
    assert!(changed > 500, "{changed} pixels were painted anew");
}

#[test]
fn a_picture_that_is_gone_or_changed_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(folder.path(), "source.png", (64, 64));
    let job = || {
        let source = PlannedSource {
            image: image.clone(),
            mask: None,
            strength: Some(0.5),
            more_images: Vec::new(),
            end_image: None,
        };
        let plan = Plan {
            mode: Mode::ImageToImage,
            source: Some(source),
            ..plan(&starter(), "a hill", 2)
        };
        work(folder.path(), plan)
    };
    let mut engine = Engine::start(&[]);
    let changed = job();
    picture(folder.path(), "source.png", (64, 48));
    let reports = engine.run(std::slice::from_ref(&changed), PLENTY);
    let said = failure(&reports, &changed);
    assert_eq!(said.code, Code::InvalidInput);
    assert!(said.message.contains("changed"), "{}", said.message);
    let gone = job();
    fs::remove_file(&image.path).unwrap();
    let reports = engine.run(std::slice::from_ref(&gone), PLENTY);
    assert!(failure(&reports, &gone).message.contains("gone"));
}

/// A clip with the recorded model of a case.
fn clip(root: &std::path::Path, format: ClipFormat) -> Plan {
    let mut made = plan(root, "the sun sets over the sea", 4);
    made.mode = Mode::TextToVideo;
    made.size = Size {
        width: 64,
        height: 64,
    };
    made.true_cfg = Some(3.0);
    made.sampler = Sampler::Unipc;
    made.schedule = Schedule::Automatic;
    made.output.format = FileFormat::Clip(format);
    made.video = Some(VideoPlan {
        frames: 9,
        fps: 8,
        cfg_2: None,
        low_share: None,
        boundary: None,
        shift: None,
        sound: None,
        context_frames: None,
        context_overlap: None,
        context_windows: None,
        vae_tiling: false,
    });
    made
}

/// A clip of LTX-2 with the recorded model of a case, and its sound.
fn clip_with_sound(root: &std::path::Path, format: ClipFormat) -> Plan {
    let mut made = clip(root, format);
    made.sampler = Sampler::Euler;
    made.text_tokens = 64;
    made.video = made.video.map(|video| VideoPlan {
        frames: 17,
        fps: 24,
        sound: Some(true),
        ..video
    });
    made
}

#[test]
fn sound_goes_into_the_file_with_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let silent = |mut plan: Plan| {
        plan.video = plan.video.map(|video| VideoPlan {
            sound: Some(false),
            ..video
        });
        plan
    };
    let works = [
        (clip_with_sound(&case("ltx2"), ClipFormat::Mp4), true),
        (clip_with_sound(&case("ltx23"), ClipFormat::Webm), true),
        (
            silent(clip_with_sound(&case("ltx2"), ClipFormat::Mp4)),
            false,
        ),
    ]
    .map(|(plan, has_sound)| (work(folder.path(), plan), has_sound));
    let mut engine = Engine::start(&[]);
    for (work, has_sound) in &works {
        let reports = engine.run(std::slice::from_ref(work), PLENTY);
        let made = artifact(&reports, work);
        let facts = made.clip.as_ref().unwrap();
        assert_eq!((facts.frames, facts.has_sound), (17, *has_sound));
        let probe = kinora_media::probe_clip(&work.staging).unwrap();
        assert_eq!((probe.width, probe.height), (64, 64));
        assert_eq!(probe.clip.frames, 17);
        assert_eq!(probe.clip.rate.to_string(), "24");
        assert_eq!(probe.clip.has_sound, *has_sound, "{:?}", made.format);
        assert_eq!(made.recipe.plan.video.unwrap().sound, Some(*has_sound));
    }
}

#[test]
fn a_clip_of_ltx_video_begins_with_the_picture_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(folder.path(), "first.png", (128, 96));
    let mut engine = Engine::start(&[]);
    for (name, format) in [
        ("ltx_i2v", ClipFormat::Frames),
        ("ltx_video_095", ClipFormat::Mp4),
    ] {
        let mut made = clip(&case(name), format);
        made.sampler = Sampler::Euler;
        made.schedule = Schedule::LinearQuadratic;
        made.text_tokens = 48;
        made.mode = Mode::ImageToVideo;
        made.source = Some(PlannedSource {
            image: image.clone(),
            mask: None,
            strength: None,
            more_images: Vec::new(),
            end_image: None,
        });
        let job = work(folder.path(), made);
        let reports = engine.run(std::slice::from_ref(&job), PLENTY);
        let made = artifact(&reports, &job);
        assert_eq!(made.clip.as_ref().unwrap().frames, 9, "{name}");
        assert!(!made.clip.as_ref().unwrap().has_sound);
    }
}

#[test]
fn frames_become_a_clip_that_carries_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let works = [ClipFormat::Mp4, ClipFormat::Gif]
        .map(|format| work(folder.path(), clip(&case("wan22_t2v_a14b"), format)));
    let mut engine = Engine::start(&[]);
    for work in &works {
        let reports = engine.run(std::slice::from_ref(work), PLENTY);
        let made = artifact(&reports, work);
        assert_eq!(made.kind, AssetKind::Video);
        assert_eq!(fs::metadata(&work.staging).unwrap().len(), made.bytes);
        let facts = made.clip.as_ref().unwrap();
        assert_eq!(facts.frames, 9);
        let probe = kinora_media::probe_clip(&work.staging).unwrap();
        assert_eq!((probe.width, probe.height), (64, 64));
        let inside = kinora_media::read_clip_metadata(&work.staging).unwrap();
        assert_eq!(*inside.unwrap().recipe.unwrap(), made.recipe.for_file());
        // While it was made, it was seen to move, for as long as the clip.
        let moving = kinora_media::probe_clip(&work.scratch.join("preview.webp")).unwrap();
        assert_eq!((moving.width, moving.height), (8, 8));
        assert!(moving.clip.frames > 1, "{moving:?}");
        assert_eq!(moving.clip.duration_ms, 1125);
        assert!(work.scratch.join("preview.jpg").exists());
        let parts: Vec<_> = (reports.iter())
            .filter_map(|report| match report {
                Report::Progress { progress } if progress.stage == Stage::Generating => {
                    Some(progress.part)
                }
                _ => None,
            })
            .collect();
        for part in [StagePart::HighNoise, StagePart::LowNoise] {
            assert!(parts.contains(&Some(part)), "{part:?}");
        }
    }
}

#[test]
fn a_clip_begins_with_the_picture_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(folder.path(), "first.png", (128, 128));
    let mut made = clip(&case("wan22_ti2v_5b_i2v_heldout"), ClipFormat::Frames);
    made.mode = Mode::ImageToVideo;
    let step = kinora_weights::recognise(&made.model.root)
        .unwrap()
        .size_step();
    made.size = Size {
        width: step * 4,
        height: step * 4,
    };
    made.source = Some(PlannedSource {
        image,
        mask: None,
        strength: None,
        more_images: Vec::new(),
        end_image: None,
    });
    let job = work(folder.path(), made);
    let mut engine = Engine::start(&[]);
    let reports = engine.run(std::slice::from_ref(&job), PLENTY);
    let made = artifact(&reports, &job);
    assert!(made.recipe.plan.source.is_some());
    assert_eq!(made.width, job.plan.size.width);
}

#[test]
fn a_killed_clip_is_resumed_with_the_bytes_of_an_unbroken_run() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["wan22_t2v_a14b", "ltx2"] {
        // Weights older than every checkpoint.
        let root = folder.path().join(name);
        copy_model(&case(name), &root);
        let made = match name {
            "ltx2" => clip_with_sound(&root, ClipFormat::Mp4),
            _ => clip(&root, ClipFormat::Mp4),
        };
        let made = Plan { steps: 12, ..made };
        let (whole, broken) = (work(folder.path(), made.clone()), work(folder.path(), made));
        let mut engine = Engine::start(&[]);
        let reports = engine.run(std::slice::from_ref(&whole), PLENTY);
        let unbroken = artifact(&reports, &whole).sha256.clone();

        let mut engine = Engine::start(&[]);
        engine.begin(std::slice::from_ref(&broken), PLENTY);
        engine.await_step(&broken, 10);
        drop(engine);
        assert!(broken.scratch.join("checkpoint.safetensors").exists());
        let again = next_attempt(&broken);
        let mut engine = Engine::start(&[]);
        let reports = engine.run(std::slice::from_ref(&again), PLENTY);
        let made = artifact(&reports, &again);
        assert!(made.recipe.timings.unwrap().resumed_steps > 0);
        assert_eq!(made.clip.as_ref().unwrap().has_sound, name == "ltx2");
        assert_eq!(made.sha256, unbroken, "{name}");
    }
}

/// Short of memory its frames go through the VAE in tiles. They do so again when it is taken up,
/// though there is plenty of memory by then.
#[test]
fn a_clip_killed_when_memory_was_short_has_the_same_bytes_when_there_is_plenty() {
    let folder = tempfile::tempdir().unwrap();
    // Weights older than every checkpoint.
    let root = folder.path().join("model");
    copy_model(&case("wan22_t2v_a14b"), &root);
    let mut made = clip(&root, ClipFormat::Mp4);
    made.steps = 12;
    made.size = Size {
        width: 528,
        height: 288,
    };
    let run = RunSize {
        size: (made.size.width, made.size.height),
        frames: 9,
        seen_frames: 9,
        fps: 8,
        text_tokens: made.text_tokens as usize,
        batch: 1,
        bytes_per_number: 4,
        kept_passes: 0,
    };
    let estimate = recognise(&root).unwrap().estimate(run);
    let least = estimate.activations.max(estimate.tiled_decode);
    assert!(least < estimate.decode, "{estimate:?}");
    let short = estimate.weights + (least + estimate.decode) / 2;

    let works: Vec<Work> = (0..3).map(|_| work(folder.path(), made.clone())).collect();
    let [whole, tiled, broken] = &works[..] else {
        panic!("three jobs");
    };
    let finish = |job: &Work, budget: u64| {
        let reports = Engine::start(&[]).run(std::slice::from_ref(job), budget);
        artifact(&reports, job).sha256.clone()
    };
    let in_tiles = finish(tiled, short);
    assert_ne!(finish(whole, PLENTY), in_tiles);
    let mut engine = Engine::start(&[]);
    engine.begin(std::slice::from_ref(broken), short);
    engine.await_step(broken, 10);
    drop(engine);
    assert!(broken.scratch.join("checkpoint.safetensors").exists());
    assert_eq!(finish(&next_attempt(broken), PLENTY), in_tiles);
}

/// Redux in its folder, with the base model beside it as the recorded case has it.
#[test]
fn a_picture_like_others_is_the_same_bytes_whenever_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = case("flux_redux");
    let image = |name, size| picture(folder.path(), name, size);
    let (first, second) = (image("first.png", (90, 60)), image("second.png", (40, 70)));
    let vary = |prompt: &str, strength, more: &[(&PlannedPicture, f32)]| Plan {
        mode: Mode::Variation,
        source: Some(PlannedSource {
            image: first.clone(),
            mask: None,
            strength: Some(strength),
            more_images: more
                .iter()
                .map(|(image, strength)| PlannedImage {
                    image: (*image).clone(),
                    strength: Some(*strength),
                })
                .collect(),
            end_image: None,
        }),
        guidance: Some(2.5),
        ..plan(&root, prompt, 3)
    };
    let plans = [
        vary("", 1.0, &[]),
        vary("", 1.0, &[(&second, 0.5)]),
        vary("", 1.0, &[(&second, -0.5)]),
        vary("a squirrel", 1.0, &[(&second, 0.5)]),
    ];
    let works = plans.map(|plan| work(folder.path(), plan));
    let mut engine = Engine::start(&[]);
    // All at once, and the last one once more by a fresh engine.
    let reports = engine.run(&works, PLENTY);
    let bytes = works.each_ref().map(|work| {
        let recipe = &artifact(&reports, work).recipe;
        let text = serde_json::to_string(recipe).unwrap();
        assert!(!text.contains("second.png"), "no path in {text}");
        let source = recipe.plan.source.as_ref().unwrap();
        assert!(source.pictures().all(|picture| picture.asset.is_none()));
        assert!(text.contains(first.sha256.as_str()));
        fs::read(&work.staging).unwrap()
    });
    for (i, one) in bytes.iter().enumerate() {
        assert!(bytes[..i].iter().all(|other| other != one), "picture {i}");
    }
    let weights = &works[0].plan.model.weights;
    let parts: Vec<_> = weights.iter().map(|file| file.file.as_str()).collect();
    assert!(
        parts.contains(&"../FLUX.1-dev/transformer/diffusion_pytorch_model.safetensors"),
        "{parts:?}"
    );
    assert!(parts.contains(&"image_embedder/diffusion_pytorch_model.safetensors"));
    let again = work(folder.path(), works[3].plan.clone());
    let mut fresh = Engine::start(&[]);
    let reports = fresh.run(std::slice::from_ref(&again), PLENTY);
    artifact(&reports, &again);
    assert_eq!(fs::read(&again.staging).unwrap(), bytes[3]);

    let without = work(
        folder.path(),
        Plan {
            source: None,
            ..works[0].plan.clone()
        },
    );
    let reports = engine.run(std::slice::from_ref(&without), PLENTY);
    let failure = failure(&reports, &without);
    assert!(failure.message.contains("needs a picture"), "{failure:?}");
}
