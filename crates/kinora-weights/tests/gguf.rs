//! GGUF: a file of the reference's own writer (tools/goldens/record_gguf.py) gives the reference's
//! numbers, and hostile files are refused in words.

mod common;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use common::gguf::Writer;
use kinora_weights::{
    Container, Dtype, Error, GgufHeader, GgufValue, WeightSet, decode::decode, sniff,
};

fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks.gguf")
}

#[test]
fn every_block_format_gives_the_references_numbers() {
    let set = WeightSet::open_file(&recorded()).unwrap();
    assert_eq!(set.container(), Container::Gguf);
    let mut seen = BTreeSet::new();
    for (name, view) in set.tensors() {
        let expected = format!("{name}.expected");
        if !set.has(&expected) {
            continue;
        }
        assert_eq!(name, view.dtype.as_str());
        assert_eq!(set.get(&expected).unwrap().shape, view.shape);
        let (ours, theirs) = (
            set.read_f32(name).unwrap(),
            set.read_f32(&expected).unwrap(),
        );
        assert!(theirs.iter().any(|number| *number != 0.0));
        for (index, (our, their)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(
                our.to_bits(),
                their.to_bits(),
                "{name}[{index}]: {our} {their}"
            );
        }
        assert_eq!(ours.len(), theirs.len());
        seen.insert(view.dtype);
    }
    // Q8_K never stands in files; it is checked below.
    let known: BTreeSet<_> = Dtype::all_ggml()
        .filter(|dtype| dtype.is_block() && *dtype != Dtype::Q8K)
        .collect();
    assert_eq!(seen, known);
    let exact = set.read_f32("f32").unwrap();
    for (name, tolerance) in [("f16", 1e-3), ("bf16", 1e-2)] {
        for (a, b) in exact.iter().zip(set.read_f32(name).unwrap()) {
            assert!((a - b).abs() <= tolerance * a.abs(), "{name}: {a} {b}");
        }
    }
}

#[test]
fn a_block_of_q8_k_is_scale_times_levels() {
    let mut block = 0.25_f32.to_le_bytes().to_vec();
    block.extend((0..256).map(|index| (index as u8).wrapping_sub(128)));
    block.extend([0xff; 32]);
    let mut numbers = [0.0; 256];
    decode(Dtype::Q8K, &block, &mut numbers);
    for (index, number) in numbers.iter().enumerate() {
        assert_eq!(*number, 0.25 * (index as f32 - 128.0));
    }
}

#[test]
fn metadata_and_shapes_are_read() {
    let (_, header) = GgufHeader::open(&recorded()).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.architecture(), Some("flux"));
    let value = |key: &str| header.metadata[key].clone();
    assert_eq!(value("k.u8"), GgufValue::Unsigned(200));
    assert_eq!(value("k.i8"), GgufValue::Signed(-100));
    assert_eq!(value("k.u16"), GgufValue::Unsigned(60000));
    assert_eq!(value("k.i16"), GgufValue::Signed(-30000));
    assert_eq!(value("k.u32"), GgufValue::Unsigned(4_000_000_000));
    assert_eq!(value("k.i32"), GgufValue::Signed(-2_000_000_000));
    assert_eq!(value("k.u64"), GgufValue::Unsigned(1 << 63));
    assert_eq!(value("k.i64"), GgufValue::Signed(-(1 << 62)));
    assert_eq!(value("k.f32"), GgufValue::Float(0.5));
    assert_eq!(value("k.f64"), GgufValue::Float(0.1));
    assert_eq!(value("k.bool"), GgufValue::Bool(true));
    assert_eq!(value("k.text"), GgufValue::Text("Wörter".to_owned()));
    let texts = ["a", "bc", ""].map(|text| GgufValue::Text(text.to_owned()));
    assert_eq!(value("k.texts"), GgufValue::Array(texts.to_vec()));
    for (key, count, texts, first) in [
        ("k.many", 300, true, &b"\x07\0\0\0\0\0\0\0token 0"[..]),
        ("k.numbers", 1000, false, b"\0\0\0\0\x01\0\0\0"),
    ] {
        let GgufValue::LongArray {
            len,
            is_text,
            offset,
            ..
        } = value(key)
        else {
            panic!("{key} is not long");
        };
        assert_eq!((len, is_text), (count, texts));
        let bytes = fs::read(recorded()).unwrap();
        assert!(bytes[offset as usize..].starts_with(first), "{key}");
    }
    assert_eq!(header.tensors["f32"].shape, [3, 5]);
    assert_eq!(header.tensors["conv"].shape, [2, 4, 1, 3, 4]);
    assert_eq!(header.tensors["Q4_K"].shape, [2, 256]);
    assert_eq!(header.tensors["Q4_K"].bytes, 2 * 144);
}

#[test]
fn faults_are_named() {
    let new = Writer::default;
    let f32_at = |offset| new().tensor("a", &[4], 0, offset).finish(3, 64);
    let mut counts = b"GGUF\x03\0\0\0".to_vec();
    counts.extend(u64::MAX.to_le_bytes());
    counts.extend(0_u64.to_le_bytes());
    let mut values = b"GGUF\x03\0\0\0".to_vec();
    values.extend(0_u64.to_le_bytes());
    values.extend(u64::MAX.to_le_bytes());
    let array =
        |kind: u32, len: u64| [kind.to_le_bytes().to_vec(), len.to_le_bytes().to_vec()].concat();
    let nested = |depth: usize| [array(9, 1).repeat(depth), array(0, 0)].concat();
    let shape = |sizes: &[u32]| {
        [
            array(4, sizes.len() as u64),
            sizes.iter().flat_map(|size| size.to_le_bytes()).collect(),
        ]
        .concat()
    };
    let shaped = |sizes: &[u32]| {
        new()
            .value("comfy.gguf.orig_shape.a", 9, &shape(sizes))
            .tensor("a", &[4], 0, 0)
            .finish(3, 64)
    };
    let aligned = |alignment: u32| {
        new()
            .value("general.alignment", 4, &alignment.to_le_bytes())
            .tensor("a", &[4], 0, 0)
            .finish(3, 64)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("fine", f32_at(0)),
        (
            "fine in version 2",
            new().tensor("a", &[4], 0, 32).finish(2, 64),
        ),
        (
            "fine with a gap",
            new()
                .tensor("a", &[1], 0, 0)
                .tensor("b", &[1], 0, 64)
                .finish(3, 96),
        ),
        ("fine without tensors", new().finish(3, 0)),
        ("only the magic", b"GGUF".to_vec()),
        ("version 1", new().finish(1, 0)),
        ("big-endian", new().finish(3_u32.swap_bytes(), 0)),
        ("endless tensors", counts),
        ("endless values", values),
        (
            "endless text",
            new().value("a", 8, &u64::MAX.to_le_bytes()).finish(3, 64),
        ),
        (
            "endless array",
            new().value("a", 9, &array(4, u64::MAX)).finish(3, 64),
        ),
        (
            "endless array of texts",
            new().value("a", 9, &array(8, 1 << 60)).finish(3, 64),
        ),
        (
            "deep arrays",
            new().value("a", 9, &nested(100_000)).finish(3, 64),
        ),
        (
            "arrays in an array",
            new().value("a", 9, &nested(2)).finish(3, 64),
        ),
        ("unknown kind", new().value("a", 13, &[]).finish(3, 64)),
        (
            "array of unknown kind",
            new().value("a", 9, &array(77, 1)).finish(3, 64),
        ),
        (
            "value twice",
            new().value("a", 7, &[1]).value("a", 7, &[1]).finish(3, 0),
        ),
        (
            "tensor twice",
            new()
                .tensor("a", &[1], 0, 0)
                .tensor("a", &[1], 0, 32)
                .finish(3, 64),
        ),
        ("not aligned", f32_at(4)),
        ("beyond the end", f32_at(64)),
        ("far beyond the end", f32_at(u64::MAX - 31)),
        (
            "overlap",
            new()
                .tensor("a", &[16], 0, 0)
                .tensor("b", &[1], 0, 32)
                .finish(3, 64),
        ),
        (
            "overflow",
            new().tensor("a", &[u64::MAX, u64::MAX], 0, 0).finish(3, 64),
        ),
        (
            "overflow beside a zero",
            new().tensor("a", &[0, u64::MAX, 2], 0, 0).finish(3, 64),
        ),
        (
            "half a block",
            new().tensor("a", &[16, 2], 2, 0).finish(3, 64),
        ),
        (
            "many dimensions",
            new().tensor("a", &[1; 9], 0, 0).finish(3, 64),
        ),
        (
            "unread format",
            new().tensor("a", &[256], 19, 0).finish(3, 64),
        ),
        (
            "unknown format",
            new().tensor("a", &[256], 999, 0).finish(3, 64),
        ),
        ("another shape", shaped(&[2, 2])),
        ("a shape of other size", shaped(&[2, 3])),
        ("alignment of nothing", aligned(0)),
        ("alignment of 24", aligned(24)),
        ("alignment of 4 GB", aligned(1 << 31)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut answers = String::new();
    for (name, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let answer = match GgufHeader::open(&path) {
            Ok((_, header)) => format!(
                "{:?}",
                header
                    .tensors
                    .values()
                    .map(|info| &info.shape)
                    .collect::<Vec<_>>()
            ),
            Err(error) => error.to_string().replace(path.to_str().unwrap(), "x"),
        };
        writeln!(answers, "{name}: {answer}").unwrap();
    }
    insta::assert_snapshot!(answers);
}

/// Flips, cuts and repeats bytes of the recorded file. Whatever is still accepted must be readable
/// to the last tensor.
#[test]
fn mutated_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let original = fs::read(recorded()).unwrap();
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..1500 {
        let mut bytes = original.clone();
        for _ in 0..1 + random(3) {
            // Most of them in the header.
            let bound = if random(4) == 0 {
                bytes.len()
            } else {
                9000.min(bytes.len())
            };
            let at = random(bound);
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                2 => bytes.insert(at, 0),
                3 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => {}
                _ => bytes.truncate(at + 1),
            }
        }
        fs::write(&path, &bytes).unwrap();
        match WeightSet::open_file(&path) {
            Ok(set) => {
                accepted += 1;
                assert!(set.total_bytes() <= bytes.len() as u64);
                for (name, _) in set.tensors() {
                    set.read_f32(name).unwrap();
                }
            }
            Err(Error::Damaged { .. } | Error::Unsupported { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        accepted > 50 && refused > 500,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn the_content_decides_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::copy(recorded(), &path).unwrap();
    assert_eq!(sniff(&path).unwrap(), Container::Gguf);
    assert!(WeightSet::open_file(&path).unwrap().has("Q4_K"));
    let path = folder.path().join("model.gguf");
    common::write(&path, common::encode(&common::t5()));
    assert_eq!(sniff(&path).unwrap(), Container::Safetensors);
    assert!(WeightSet::open_file(&path).unwrap().has("shared.weight"));
}
