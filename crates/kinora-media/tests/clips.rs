//! Clips: written from pictures, played by the numbers, read back, cut and bent.

use std::{f64::consts::TAU, fs, path::Path, process::Command};

use kinora_core::{AssetKind, ClipFormat, FrameRate, Seed};
use kinora_media::{
    CLIP_QUALITY, ClipSpec, ClipWriter, Error, FrameSpool, SoundSpec, Source, detect_clip,
    frame_at, poster, probe_clip, read_clip_metadata, read_metadata, write_infotext,
};

mod common;

const WIDTH: u32 = 160;
const HEIGHT: u32 = 96;
const RATE: FrameRate = FrameRate::whole(16);

fn spec(format: ClipFormat) -> ClipSpec {
    ClipSpec {
        width: WIDTH,
        height: HEIGHT,
        rate: RATE,
        format,
        quality: CLIP_QUALITY,
        sound: None,
        recipe: common::recipe("a cat, walking\nNegative prompt? no: \"x\" <y> & 猫 🤖"),
    }
}

/// A soft pattern that moves: what a lens would give, without edges that half-resolution colour
/// cannot hold.
fn picture(index: u32, width: u32, height: u32) -> Vec<u8> {
    let wave = |position: f64, phase: f64| (128.0 + 90.0 * (position + phase).sin()) as u8;
    let time = f64::from(index) * 0.15;
    let pixel = |i: u32| {
        let (x, y) = (f64::from(i % width) / 24.0, f64::from(i / width) / 20.0);
        [wave(x, time), wave(y, time * 0.7), wave(x + y, -time)]
    };
    (0..width * height).flat_map(pixel).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let mean = squares.sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10()
}

fn write(path: &Path, spec: &ClipSpec, frames: u32) -> kinora_core::Artifact {
    let mut clip = ClipWriter::create(path, spec).unwrap();
    for index in 0..frames {
        clip.push(&picture(index, spec.width, spec.height)).unwrap();
    }
    clip.finish().unwrap()
}

/// What ffprobe says, as JSON.
fn ffprobe(path: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-of",
            "json",
            "-show_streams",
            "-show_format",
        ])
        .args(arguments)
        .arg(path)
        .output()
        .expect("ffprobe is installed (tools/setup.sh test)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_clip_is_what_was_asked_and_shows_the_pictures_that_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".part");
    for format in ClipFormat::ALL {
        let spec = spec(format);
        let artifact = write(&path, &spec, 20);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(artifact.kind, AssetKind::Video);
        assert_eq!(artifact.format, format.into());
        assert_eq!(artifact.bytes, bytes.len() as u64);
        assert_eq!((artifact.width, artifact.height), (WIDTH, HEIGHT));
        let clip = artifact.clip.as_ref().unwrap();
        assert_eq!((clip.frames, clip.duration_ms), (20, 1250), "{format:?}");

        let probe = probe_clip(&path).unwrap();
        assert_eq!(probe.format, format);
        assert_eq!((probe.width, probe.height), (WIDTH, HEIGHT));
        assert_eq!(&probe.clip, clip, "{format:?}");

        let enough = match format {
            ClipFormat::Frames => 90.0,
            // Error diffusion trades nearness for the right colour on average.
            ClipFormat::Gif => 25.0,
            _ => 38.0,
        };
        for index in [0, 1, 11, 19] {
            let shown = frame_at(&path, index).unwrap();
            assert_eq!((shown.width, shown.height), (WIDTH, HEIGHT));
            let near = psnr(&shown.rgb, &picture(index as u32, WIDTH, HEIGHT));
            eprintln!(
                "{format:?} picture {index}: {near:.1} dB, file {} bytes",
                artifact.bytes
            );
            assert!(near > enough, "{format:?} picture {index}: {near} dB");
        }
        assert!(matches!(frame_at(&path, 20), Err(Error::Damaged { .. })));
        assert_eq!(poster(&path).unwrap(), frame_at(&path, 0).unwrap());
    }
}

#[test]
fn equal_pictures_make_equal_clips() {
    let folder = tempfile::tempdir().unwrap();
    for format in ClipFormat::ALL {
        let mut spec = spec(format);
        if format.can_have_sound() {
            spec.sound = Some(SoundSpec {
                rate: 44_100,
                channels: 2,
            });
        }
        let mut later = spec.clone();
        later.recipe.timings = None;
        later.recipe.created_at = None;
        later.recipe.plan.model.root = "elsewhere".into();
        let mut other = spec.clone();
        other.recipe.plan.seed = Seed(7);
        let digests = [&spec, &later, &other].map(|spec| {
            let mut clip = ClipWriter::create(&folder.path().join("a"), spec).unwrap();
            for index in 0..40 {
                clip.push(&picture(index, WIDTH, HEIGHT)).unwrap();
                if spec.sound.is_some() {
                    let tone = tone(44_100, 440.0, 44_100 / 16);
                    clip.push_sound(&tone).unwrap();
                }
            }
            let artifact = clip.finish().unwrap();
            let bytes = fs::read(folder.path().join("a")).unwrap();
            assert!(
                !String::from_utf8_lossy(&bytes).contains("someone"),
                "paths of the machine stay out"
            );
            artifact.sha256
        });
        assert_eq!(
            digests[0], digests[1],
            "{format:?}: time and place leave no trace"
        );
        assert_ne!(digests[0], digests[2]);
    }
}

#[test]
fn a_replayed_spool_gives_the_same_clip() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(ClipFormat::Mp4);
    let whole = write(&folder.path().join("a"), &spec, 30);

    let spool_path = folder.path().join("spool");
    let mut spool = FrameSpool::open(&spool_path, WIDTH, HEIGHT).unwrap();
    for index in 0..13 {
        spool.append(&picture(index, WIDTH, HEIGHT)).unwrap();
    }
    drop(spool);
    // Another process goes on.
    let mut spool = FrameSpool::open(&spool_path, WIDTH, HEIGHT).unwrap();
    for index in spool.frames() as u32..30 {
        spool.append(&picture(index, WIDTH, HEIGHT)).unwrap();
    }
    let mut clip = ClipWriter::create(&folder.path().join("b"), &spec).unwrap();
    let mut rgb = Vec::new();
    for index in 0..spool.frames() {
        spool.read(index, &mut rgb).unwrap();
        clip.push(&rgb).unwrap();
    }
    assert_eq!(clip.finish().unwrap().sha256, whole.sha256);
}

#[test]
fn ffprobe_sees_codec_colours_rate_and_tags() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    let wanted = [
        (ClipFormat::Mp4, "h264", "avc1"),
        (ClipFormat::Mp4H265, "hevc", "hvc1"),
        (ClipFormat::Mp4Av1, "av1", "av01"),
        (ClipFormat::Webm, "vp9", "[0][0][0][0]"),
    ];
    for (format, codec, tag) in wanted {
        let mut spec = spec(format);
        spec.rate = FrameRate::from_f64(23.976).unwrap();
        write(&path, &spec, 24);
        let found = ffprobe(&path, &["-count_frames"]);
        let video = &found["streams"][0];
        assert_eq!(video["codec_name"], codec);
        assert_eq!(video["codec_tag_string"], tag);
        assert_eq!(video["pix_fmt"], "yuv420p");
        assert_eq!(video["nb_read_frames"], "24");
        assert_eq!(video["avg_frame_rate"], "24000/1001", "{format:?}");
        for key in ["color_space", "color_transfer", "color_primaries"] {
            assert_eq!(video[key], "bt709", "{format:?} {key}");
        }
        assert_eq!(video["color_range"], "tv", "{format:?}");
        let tags = &found["format"]["tags"];
        let text = |key: &str| {
            let upper = key.to_uppercase();
            tags[key]
                .as_str()
                .or(tags[&upper].as_str())
                .unwrap()
                .to_owned()
        };
        assert_eq!(text("parameters"), write_infotext(&spec.recipe));
        assert!(text("kinora").starts_with("{\"recipe\":1"));
    }
}

#[test]
fn an_mp4_plays_before_it_is_there_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    write(&path, &spec(ClipFormat::Mp4), 5);
    let bytes = fs::read(&path).unwrap();
    let place = |kind: &[u8]| bytes.windows(4).position(|four| four == kind).unwrap();
    assert!(place(b"moov") < place(b"mdat"));
}

#[test]
fn an_mp4_can_be_entered_at_each_of_its_keyframes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    write(&path, &spec(ClipFormat::Mp4), 40);
    let bytes = fs::read(&path).unwrap();
    // x264 writes its settings into the stream. Keyframes of open groups stop Chromium's seeking.
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("open_gop=0") && text.contains("keyint=16 "));
    let found = ffprobe(
        &path,
        &["-show_entries", "packet=flags", "-select_streams", "v"],
    );
    let packets = found["packets"].as_array().unwrap();
    let is_key = |packet: &&serde_json::Value| packet["flags"].as_str().unwrap().contains('K');
    assert_eq!(packets.iter().filter(is_key).count(), 3);
}

#[test]
fn a_clip_brings_its_settings_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    for format in ClipFormat::ALL {
        let spec = spec(format);
        write(&path, &spec, 2);
        let bytes = fs::read(&path).unwrap();
        assert!(detect_clip(&bytes[..64]).is_some());
        let from_bytes = read_metadata(&bytes).unwrap();
        if format != ClipFormat::AnimatedWebp {
            let from_file = read_clip_metadata(&path).unwrap().unwrap();
            assert_eq!(from_file, from_bytes);
        }
        assert_eq!(from_bytes.source, Source::Kinora, "{format:?}");
        assert_eq!(
            from_bytes.recipe.as_deref(),
            Some(&spec.recipe.for_file()),
            "{format:?}"
        );
        assert!(
            from_bytes
                .raw
                .values()
                .any(|text| *text == write_infotext(&spec.recipe)),
            "{format:?}: other programs find their settings"
        );
    }
}

/// Samples of a tone on both channels, interleaved.
fn tone(rate: u32, hertz: f64, count: u32) -> Vec<f32> {
    (0..count)
        .flat_map(|i| {
            let value = (f64::from(i) / f64::from(rate) * hertz * TAU).sin() * 0.5;
            [value as f32; 2]
        })
        .collect()
}

#[test]
fn sound_is_in_step_with_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    for format in [ClipFormat::Mp4, ClipFormat::Webm] {
        for (rate, channels) in [(48_000_u32, 2_u16), (44_100, 2), (24_000, 1)] {
            let mut spec = spec(format);
            spec.sound = Some(SoundSpec { rate, channels });
            let mut clip = ClipWriter::create(&path, &spec).unwrap();
            // Silence, a beep from 1.0 s to 1.25 s, silence; half a second longer than the
            // pictures.
            let seconds = |s: f64| (s * f64::from(rate)) as usize;
            let samples: Vec<f32> = (0..seconds(2.5))
                .flat_map(|i| {
                    let is_on = (seconds(1.0)..seconds(1.25)).contains(&i);
                    let phase = i as f64 / f64::from(rate) * 1000.0 * TAU;
                    let value = if is_on { phase.sin() * 0.7 } else { 0.0 };
                    vec![value as f32; usize::from(channels)]
                })
                .collect();
            clip.push_sound(&samples).unwrap();
            for index in 0..32 {
                clip.push(&picture(index, WIDTH, HEIGHT)).unwrap();
            }
            let artifact = clip.finish().unwrap();
            assert!(artifact.clip.unwrap().has_sound);
            assert!(probe_clip(&path).unwrap().clip.has_sound);

            let output = Command::new("ffmpeg")
                .args(["-v", "error", "-i"])
                .arg(&path)
                .args(["-f", "f32le", "-ac", "1", "-ar", "48000", "-"])
                .output()
                .unwrap();
            let heard: Vec<f32> = output
                .stdout
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                .collect();
            let begin = heard.iter().position(|v| v.abs() > 0.2).unwrap() as f64 / 48_000.0;
            let end = heard.iter().rposition(|v| v.abs() > 0.2).unwrap() as f64 / 48_000.0;
            let length = heard.len() as f64 / 48_000.0;
            eprintln!("{format:?} {rate} Hz: beep {begin:.4} to {end:.4} of {length:.4} s");
            assert!((begin - 1.0).abs() < 0.005, "{format:?} {rate}: {begin}");
            assert!((end - 1.25).abs() < 0.005, "{format:?} {rate}: {end}");
            assert!((length - 2.0).abs() < 0.05, "{format:?} {rate}: {length}");
        }
    }
}

#[test]
fn odd_and_small_sizes_are_taken_or_refused_and_never_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    for format in ClipFormat::ALL {
        for (width, height) in [(65, 67), (1, 1), (3, 100), (16, 16)] {
            let mut spec = spec(format);
            (spec.width, spec.height) = (width, height);
            let _ = fs::remove_file(&path);
            let outcome = ClipWriter::create(&path, &spec).and_then(|mut clip| {
                for index in 0..3 {
                    clip.push(&picture(index, width, height))?;
                }
                clip.finish()
            });
            match outcome {
                Ok(artifact) => {
                    let shown = frame_at(&path, 2).unwrap();
                    assert_eq!(
                        (shown.width, shown.height),
                        (artifact.width, artifact.height)
                    );
                    assert!(artifact.width - width <= 1 && artifact.height - height <= 1);
                    assert!(shown.width >= width);
                }
                Err(error) => {
                    assert!(matches!(error, Error::EncodeClip { .. }), "{error}");
                    assert!(width < 64, "{format:?} {width} × {height}: {error}");
                    assert!(!path.exists());
                }
            }
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    type Change = fn(&mut ClipSpec);
    let changes: [Change; 7] = [
        |spec| spec.width = 0,
        |spec| (spec.width, spec.height) = (u32::MAX, u32::MAX),
        |spec| spec.rate.denominator = 0,
        |spec| spec.rate.numerator = 0,
        |spec| spec.rate = FrameRate::whole(241),
        |spec| {
            spec.sound = Some(SoundSpec {
                rate: 48_000,
                channels: 3,
            })
        },
        |spec| {
            spec.format = ClipFormat::Gif;
            spec.sound = Some(SoundSpec {
                rate: 48_000,
                channels: 2,
            })
        },
    ];
    for change in changes {
        let mut spec = spec(ClipFormat::Mp4);
        change(&mut spec);
        assert!(ClipWriter::create(&path, &spec).is_err());
    }
    let mut clip = ClipWriter::create(&path, &spec(ClipFormat::Mp4)).unwrap();
    assert!(matches!(clip.push(&[0; 7]), Err(Error::FrameLength { .. })));
    assert!(clip.push_sound(&[0.0]).is_err());
    assert!(clip.finish().is_err(), "a clip without pictures");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_clip_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for format in ClipFormat::ALL {
        let path = folder.path().join("clip");
        let mut clip = ClipWriter::create(&path, &spec(format)).unwrap();
        clip.push(&picture(0, WIDTH, HEIGHT)).unwrap();
        drop(clip);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{format:?}"
        );
    }
}

#[test]
fn a_fast_gif_drops_pictures_and_keeps_its_speed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    let mut spec = spec(ClipFormat::Gif);
    spec.rate = FrameRate::whole(60);
    let artifact = write(&path, &spec, 60);
    let clip = artifact.clip.unwrap();
    assert_eq!(
        (clip.frames, clip.rate.per_second(), clip.duration_ms),
        (30, 30.0, 1000)
    );
    let probe = probe_clip(&path).unwrap();
    assert_eq!((probe.clip.frames, probe.clip.duration_ms), (30, 1000));
}

#[test]
fn cut_and_bent_clips_are_errors_and_nothing_worse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    for format in ClipFormat::ALL {
        let mut spec = spec(format);
        (spec.width, spec.height) = (64, 64);
        write(&path, &spec, 4);
        let whole = fs::read(&path).unwrap();
        let bent = folder.path().join("bent");
        let mut state = 12345_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        for round in 0..40 {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                bytes.truncate(random(whole.len()));
            } else {
                for _ in 0..8 {
                    let at = random(bytes.len().min(3000));
                    bytes[at] = random(256) as u8;
                }
            }
            fs::write(&bent, &bytes).unwrap();
            let _ = probe_clip(&bent);
            let _ = frame_at(&bent, 3);
            let _ = read_metadata(&bytes);
            let _ = read_clip_metadata(&bent);
        }
    }
}

#[test]
fn a_file_that_is_no_clip_is_not_opened_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    // Playlists make FFmpeg open other files, even over the network.
    let texts = [
        "#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
        "ffconcat version 1.0\nfile /etc/hostname\n",
        "",
        "GIF89a",
        "PK\u{3}\u{4}",
    ];
    for text in texts {
        fs::write(&path, text).unwrap();
        let error = probe_clip(&path).unwrap_err();
        let is_told = matches!(error, Error::UnsupportedFile | Error::Damaged { .. });
        assert!(is_told, "{text:?}: {error}");
    }
    assert!(matches!(
        probe_clip(&folder.path().join("none")),
        Err(Error::Read { .. })
    ));
}
