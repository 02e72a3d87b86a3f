//! Broken and malicious files: nothing panics, memory stays bounded, and what can be read is read.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Write,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use kinora_core::ImageFormat;
use kinora_media::{
    decode, detect_format, encode, probe, read_metadata, strip_metadata, thumbnail,
};

mod common;

/// Counts the bytes in use, to see what a file makes its reader take.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything that a file can be asked, with the most memory that it took.
fn ask(bytes: &[u8]) -> usize {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let _ = probe(bytes);
    if let Ok(found) = read_metadata(bytes) {
        let _ = found.to_request();
        serde_json::to_string(&found).unwrap();
    }
    if let Ok(stripped) = strip_metadata(bytes) {
        assert_eq!(detect_format(&stripped), detect_format(bytes));
        assert!(stripped.len() <= bytes.len() + 64);
    }
    if let Ok(picture) = decode(bytes) {
        assert_eq!(
            picture.rgb.len() as u64,
            u64::from(picture.width) * u64::from(picture.height) * 3
        );
    }
    PEAK.load(Relaxed) - before
}

fn files() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let is_picture = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e != "py");
    let mut files: Vec<_> = paths
        .into_iter()
        .filter(is_picture)
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(files.len() >= 15);
    let rgb = common::pixels(48, 32);
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp] {
        files.push(encode(&rgb, 48, 32, format, &common::recipe("a cat, 猫")).unwrap());
    }
    files
}

/// The one test of this program: its memory is measured, and so it runs alone.
#[test]
fn hostile_files_do_no_harm() {
    every_mutation_is_survived();
    bombs_do_not_go_off();
    a_header_alone_costs_nothing();
    long_texts_are_kept_but_not_taken_apart();
    texts_that_invite_endless_searches_are_short_work();
}

fn every_mutation_is_survived() {
    // A linear congruential generator: the same files every time.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below.max(1)
    };
    const EDGES: [u8; 6] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF];
    for file in files() {
        for length in 0..file.len().min(400) {
            ask(&file[..length]);
        }
        for _ in 0..400 {
            let mut bytes = file.clone();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = EDGES[random(EDGES.len())],
                    1 => bytes[at] ^= 1 << random(8),
                    2 => {
                        // A field of four bytes, as lengths are, becomes enormous or tiny.
                        let end = (at + 4).min(bytes.len());
                        bytes[at..end].fill(EDGES[random(EDGES.len())]);
                    }
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let peak = ask(&bytes);
            // A header may honestly ask for a large picture; then the decoder's own limit holds.
            let claimed = probe(&bytes).map_or(0, |p| p.width as usize * p.height as usize);
            let limit = (48 << 20) + claimed.min(100_000_000) * 20 + bytes.len() * 40;
            assert!(
                peak < limit,
                "{peak} bytes for a file of {}, which claims {claimed} pixels",
                bytes.len()
            );
        }
    }
}

fn bombs_do_not_go_off() {
    let plain = encode(&[0; 3], 1, 1, ImageFormat::Png, &common::recipe("x")).unwrap();
    let plain = strip_metadata(&plain).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        zlib.write_all(&block).unwrap();
    }
    let stream = zlib.finish().unwrap();
    let ztxt = common::chunk(b"zTXt", &[b"parameters\0\0", stream.as_slice()].concat());
    let itxt = common::chunk(
        b"iTXt",
        &[b"prompt\0\x01\0\0\0", stream.as_slice()].concat(),
    );
    let good = common::chunk(
        b"tEXt",
        b"parameters\0a cat\nSteps: 4, Sampler: Euler, Seed: 1",
    );
    let mut bytes = plain[..33].to_vec();
    for _ in 0..20 {
        bytes.extend(&ztxt);
        bytes.extend(&itxt);
    }
    bytes.extend(&good);
    bytes.extend(&plain[33..]);
    let peak = ask(&bytes);
    assert!(peak < 300 << 20, "{peak}");
    let found = read_metadata(&bytes).unwrap();
    assert_eq!(
        found.prompt.as_deref(),
        Some("a cat"),
        "what is honest is read all the same"
    );
    assert!(!found.notes.is_empty());
}

fn a_header_alone_costs_nothing() {
    // 10,000 × 10,000 pixels are allowed, but this file has none of them.
    let mut png = encode(&[0; 3], 1, 1, ImageFormat::Png, &common::recipe("x")).unwrap();
    png[16..20].copy_from_slice(&10_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&10_000_u32.to_be_bytes());
    let ihdr = common::chunk(b"IHDR", &png[16..29]);
    png.splice(8..33, ihdr);
    assert!(decode(&png).is_err());
    assert!(thumbnail(&png, 256).is_err());
}

fn long_texts_are_kept_but_not_taken_apart() {
    let plain = encode(&[0; 3], 1, 1, ImageFormat::Png, &common::recipe("x")).unwrap();
    let plain = strip_metadata(&plain).unwrap();
    // Seventeen million bytes of JSON would become a gigabyte of values.
    let json = format!("{{\"1\":[{}0]}}", "0,".repeat(17 << 19));
    let bytes = common::with_texts(&plain, &[("prompt", &json)]);
    let peak = ask(&bytes);
    assert!(peak < 8 * bytes.len(), "{peak}");
    let found = read_metadata(&bytes).unwrap();
    assert_eq!(found.raw["prompt"].len(), json.len());
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
}

/// Each of these would take hours if every start looked for an end.
fn texts_that_invite_endless_searches_are_short_work() {
    let settings = "\nSteps: 1, Sampler: Euler, Seed: 2";
    for part in [
        "<",
        "<lora:a:",
        "a",
        "a b-c/",
        "ab:\"",
        "ab:\"\\",
        "Steps: ",
        "Hashes: {",
        "Negative prompt:",
        "Steps: \n",
        "<lora:a:1>",
    ] {
        let text = part.repeat((4 << 20) / part.len());
        for text in [
            format!("{text}{settings}"),
            format!("x\nSteps: 1, Seed: 2, {text}"),
            text,
        ] {
            kinora_media::read_settings_text(&text).to_request();
        }
    }
    // A chain of nodes, and outputs at each of them.
    let node = |id: usize| {
        format!(
            "\"{id}\":{{\"class_type\":\"SaveImage\",\"inputs\":{{\"images\":[\"{}\",0]}}}}",
            id + 1
        )
    };
    let graph: Vec<String> = (0..100_000).map(node).collect();
    kinora_media::read_settings_text(&format!("{{{}}}", graph.join(",")));
}
