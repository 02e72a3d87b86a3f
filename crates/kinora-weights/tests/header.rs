//! Headers: what is refused, in which words, and that nothing hostile panics or allocates much.

mod common;

use std::{fmt::Write as _, fs, path::Path};

use common::{Tensors, add, encode, join, write};
use kinora_weights::{Dtype, Error, Header, WeightSet};
use serde_json::json;

fn two_tensors() -> Tensors {
    let mut tensors = Tensors::new();
    add(&mut tensors, "a", &[2, 3]);
    add(&mut tensors, "b", &[4]);
    tensors
}

#[test]
fn a_correct_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = two_tensors();
    let path = write(&folder.path().join("x.safetensors"), encode(&tensors));
    let set = WeightSet::open_file(&path).unwrap();
    assert_eq!(set.total_bytes(), 20);
    assert_eq!(set.total_elements(), 10);
    for (name, (shape, bytes)) in &tensors {
        assert_eq!(&set.get(name).unwrap().shape, shape);
        assert_eq!(set.get(name).unwrap().dtype, Dtype::Bf16);
        assert_eq!(&set.read(name).unwrap(), bytes);
    }
    assert!(matches!(set.read("c"), Err(Error::UnknownTensor { name, .. }) if name == "c"));
    let wrong = set.read_into("a", &mut [0; 11]);
    assert!(matches!(
        wrong,
        Err(Error::WrongBuffer {
            bytes: 12,
            buffer: 11,
            ..
        })
    ));
}

#[test]
fn every_number_format_is_known_by_its_name_and_size() {
    let known: Vec<_> = Dtype::SAFETENSORS
        .iter()
        .map(|dtype| {
            let size = dtype.block_bytes();
            let header =
                json!({ "x": { "dtype": dtype.as_str(), "shape": [3], "data_offsets": [0, 3 * size] } })
                    .to_string();
            let bytes = (8 + header.len() + 3 * size) as u64;
            let header = Header::parse(Path::new("x"), header.as_bytes(), bytes).unwrap();
            assert_eq!(header.tensors["x"].dtype, *dtype);
            format!("{dtype} {size}")
        })
        .collect();
    insta::assert_snapshot!(known.join(", "), @"BOOL 1, U8 1, I8 1, F8_E4M3 1, F8_E5M2 1, F8_E8M0 1, U16 2, I16 2, F16 2, BF16 2, U32 4, I32 4, F32 4, U64 8, I64 8, F64 8");
}

#[test]
fn faults_are_named() {
    let tensor = |dtype: &str, shape: serde_json::Value, begin: u64, end: u64| json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] });
    let two = |a, b| join(&json!({ "a": a, "b": b }).to_string(), &[0; 8]);
    let one = |a| join(&json!({ "a": a }).to_string(), &[0; 8]);
    let max = u64::MAX;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("seven bytes", vec![1; 7]),
        ("no json", join("{", &[])),
        ("not an object", join("[1]", &[])),
        ("huge header", max.to_le_bytes().to_vec()),
        ("header beyond file", 1000_u64.to_le_bytes().to_vec()),
        ("fine", one(tensor("F32", json!([2]), 0, 8))),
        (
            "fine with nothing in it",
            two(
                tensor("F32", json!([2]), 0, 8),
                tensor("F32", json!([0, 5]), 8, 8),
            ),
        ),
        ("unknown format", one(tensor("Q4", json!([2]), 0, 8))),
        ("backwards", one(tensor("F32", json!([2]), 8, 0))),
        ("beyond the end", one(tensor("F32", json!([4]), 0, 16))),
        ("huge offsets", one(tensor("F32", json!([4]), max - 8, max))),
        ("wrong size", one(tensor("F32", json!([3]), 0, 8))),
        ("overflow", one(tensor("F32", json!([max, max]), 0, 8))),
        (
            "overflow beside a zero",
            one(tensor("F32", json!([0, max, max]), 0, 0)),
        ),
        ("negative", one(tensor("F32", json!([-2]), 0, 8))),
        ("fraction", one(tensor("F32", json!([2.5]), 0, 8))),
        (
            "many dimensions",
            one(tensor(
                "U8",
                json!([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8]),
                0,
                8,
            )),
        ),
        (
            "overlap",
            two(
                tensor("U8", json!([6]), 0, 6),
                tensor("U8", json!([4]), 4, 8),
            ),
        ),
        (
            "the same bytes",
            two(
                tensor("U8", json!([8]), 0, 8),
                tensor("U8", json!([8]), 0, 8),
            ),
        ),
        (
            "gap",
            two(
                tensor("U8", json!([2]), 0, 2),
                tensor("U8", json!([4]), 4, 8),
            ),
        ),
        ("bytes after the end", one(tensor("U8", json!([7]), 0, 7))),
        ("no tensors but bytes", join("{}", &[0; 3])),
        (
            "twice",
            join(
                r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#,
                &[0; 8],
            ),
        ),
        (
            "metadata of numbers",
            join(r#"{"__metadata__":{"a":1}}"#, &[]),
        ),
        ("deep", join(&"[".repeat(100_000), &[])),
        ("pickle in a zip", b"PK\x03\x04aaaaaaaaaaaaaaaa".to_vec()),
        (
            "bare pickle",
            b"\x80\x02}q\x00X\x05\x00\x00\x00model".to_vec(),
        ),
        ("GGUF", b"GGUF\x03\x00\x00\x00aaaaaaaaaaaa".to_vec()),
        (
            "Git LFS",
            b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
        ),
        ("web page", b"<!doctype html><html></html>".to_vec()),
        (
            "web page after spaces",
            b"\xef\xbb\xbf\n  <!DOCTYPE HTML>".to_vec(),
        ),
        ("an error as JSON", br#"{"error":"not found"}"#.to_vec()),
        (
            "PyTorch's zip",
            b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0archive/data.pklFB".to_vec(),
        ),
        (
            "tar",
            [&[b'a'; 257][..], b"ustar\x0000", &[0; 248]].concat(),
        ),
        ("old pickle", b"(dp0\nS'state_dict'\np1\n".to_vec()),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()),
        ("HDF5", b"\x89HDF\r\n\x1a\n\0\0\0".to_vec()),
        ("old GGML", b"tjgg\x03\0\0\0\0\0\0\0".to_vec()),
        ("nothing but zeros", vec![0; 4096]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut answers = String::new();
    for (name, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let answer = match Header::open(&path) {
            Ok((_, header)) => format!("{} tensors", header.tensors.len()),
            Err(error) => error.to_string().replace(path.to_str().unwrap(), "x"),
        };
        writeln!(answers, "{name}: {answer}").unwrap();
    }
    insta::assert_snapshot!(answers);
}

/// Flips, cuts and repeats bytes of a correct file many times. Whatever is still accepted must be
/// readable to the last tensor.
#[test]
fn mutated_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut tensors = two_tensors();
    add(&mut tensors, "c", &[64, 4]);
    let original = encode(&tensors);
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    const ALPHABET: &[u8] = b"0123456789{}[]\":,-. eabdF\\\x00\xff";
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..1000 {
        let mut bytes = original.clone();
        for _ in 0..1 + random(3) {
            let at = random(bytes.len());
            match random(6) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = ALPHABET[random(ALPHABET.len())],
                2 => bytes.insert(at, ALPHABET[random(ALPHABET.len())]),
                3 if bytes.len() > 1 => drop(bytes.remove(at)),
                4 => bytes.truncate(at + 1),
                _ => {
                    let part = bytes[at..].to_vec();
                    bytes.extend(part);
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
        match WeightSet::open_file(&path) {
            Ok(set) => {
                accepted += 1;
                assert!(set.total_bytes() <= bytes.len() as u64);
                let names: Vec<_> = set.tensors().map(|(name, _)| name.to_owned()).collect();
                for name in names {
                    set.read(&name).unwrap();
                }
            }
            Err(Error::Damaged { .. } | Error::Unsupported { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        accepted > 50 && refused > 300,
        "{accepted} accepted, {refused} refused"
    );
}
