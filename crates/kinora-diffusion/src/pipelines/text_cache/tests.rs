use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use candle_core::{DType, Device, Tensor};

use super::*;

const LIMIT: u64 = 1 << 20;

fn numbers(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn unknown(folder: &Path, limit: u64) -> TextCache {
    TextCache::new(folder, limit, |_| None)
}

fn texts(cache: &TextCache) -> KeptTexts<'_> {
    cache.of("test", &Device::Cpu, DType::F32)
}

fn find(cache: &TextCache, text: &str) -> Option<Vec<f32>> {
    let [tensor] = texts(cache).find(text, &[8], ["tokens"])?;
    Some(tensor.to_vec1().unwrap())
}

fn keep(cache: &TextCache, text: &str, values: &[f32]) {
    texts(cache).keep(text, &[8], &[("tokens", &numbers(values))]);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_text_comes_back_with_the_same_bits_and_its_words_are_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let cache = unknown(&folder.path().join("texts"), LIMIT);
    assert_eq!(find(&cache, "a secret"), None);
    let values = [0.1, -0.0, f32::MIN_POSITIVE / 2.0, 3e38];
    keep(&cache, "a secret", &values);
    let found = find(&cache, "a secret").unwrap();
    assert_eq!(
        found.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        values.map(f32::to_bits)
    );
    assert_eq!(find(&cache, "a secret "), None);
    let [file] = &files(&folder.path().join("texts"))[..] else {
        panic!("one file");
    };
    let held = [
        file.file_name().unwrap().as_encoded_bytes(),
        &fs::read(file).unwrap(),
    ]
    .concat();
    assert!(!held.windows(6).any(|part| part == b"secret"));

    let halves = numbers(&values[..2]).to_dtype(DType::BF16).unwrap();
    let parts = [("tokens", &halves), ("pooled", &numbers(&[1.0]))];
    texts(&cache).keep("b", &[], &parts);
    let found = texts(&cache).find("b", &[], ["tokens", "pooled"]);
    let [tokens, pooled] = found.unwrap();
    assert_eq!(
        tokens.to_vec1::<half::bf16>().unwrap(),
        halves.to_vec1::<half::bf16>().unwrap()
    );
    assert_eq!(pooled.to_vec1::<f32>().unwrap(), [1.0]);
}

#[test]
fn whatever_decides_the_content_is_part_of_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights");
    fs::write(&file, "1").unwrap();
    let cache = unknown(folder.path(), LIMIT);
    let sign = |purpose: &str, dtype, part: &[u8]| {
        let mut texts = cache.of(purpose, &Device::Cpu, dtype);
        texts.add_file(&file).unwrap();
        texts.add(part);
        let names = texts.names(b"text", &[8]);
        assert_ne!(names, texts.names(b"text", &[9]));
        names
    };
    let first = sign("a", DType::F32, b"x");
    assert_eq!(first, sign("a", DType::F32, b"x"));
    assert_eq!(first.0, None, "what the file holds is not known");
    assert_ne!(first, sign("b", DType::F32, b"x"));
    assert_ne!(first, sign("a", DType::BF16, b"x"));
    assert_ne!(first, sign("a", DType::F32, b"y"));
    fs::write(&file, "22").unwrap();
    assert_ne!(first, sign("a", DType::F32, b"x"));
}

#[test]
fn files_that_hold_the_same_share_their_texts_once_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let weights = ["a", "b"].map(|name| folder.path().join(name));
    weights
        .iter()
        .for_each(|path| fs::write(path, "1").unwrap());
    let sign = |cache: &TextCache, path: &Path, text: Option<f32>| {
        let mut texts = texts(cache);
        texts.add_file(path).unwrap();
        match text {
            Some(value) => texts.keep("t", &[], &[("tokens", &numbers(&[value]))]),
            None => {
                let found = texts.find("t", &[], ["tokens"]);
                return found.map(|[tensor]| tensor.to_vec1::<f32>().unwrap());
            }
        }
        None
    };
    let kept = folder.path().join("kept");
    let unknown = unknown(&kept, LIMIT);
    let known = TextCache::new(&kept, LIMIT, |path| Some(fs::read_to_string(path).unwrap()));
    sign(&unknown, &weights[0], Some(7.0));
    assert_eq!(sign(&known, &weights[1], None), None);
    // The first look tells what the file holds, and from then on the other one has it too.
    assert_eq!(sign(&known, &weights[0], None), Some(vec![7.0]));
    assert_eq!(sign(&known, &weights[1], None), Some(vec![7.0]));
    assert_eq!(files(&kept).len(), 1);
}

#[test]
fn damaged_files_are_removed_and_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = unknown(folder.path(), LIMIT);
    keep(&cache, "a", &[1.0, 2.0]);
    let [path] = &files(folder.path())[..] else {
        panic!("one file");
    };
    let whole = fs::read(path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&flipped[..], &whole[..whole.len() - 3], b"no tensors", b""] {
        fs::write(path, bytes).unwrap();
        assert_eq!(find(&cache, "a"), None);
        assert!(!path.exists());
    }
    // One under another one's name.
    keep(&cache, "b", &[3.0]);
    fs::rename(&files(folder.path())[0], path).unwrap();
    assert_eq!(find(&cache, "a"), None);
    keep(&cache, "a", &[1.0, 2.0]);
    assert_eq!(find(&cache, "a"), Some(vec![1.0, 2.0]));
}

#[test]
fn what_was_used_longest_ago_leaves_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("notes.txt");
    fs::write(&foreign, [0; 4000]).unwrap();
    let left = format!(".{}.1.0.part", "a".repeat(NAME_LENGTH));
    let left = folder.path().join(left);
    fs::write(&left, "half").unwrap();
    let long_ago = |path: &Path, seconds: u64| {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    };
    long_ago(&left, 7200);
    let cache = unknown(folder.path(), 3000);
    let values = [1.0; 256];
    // Nothing but the text decides here, so that the name is a lasting one.
    let name = texts(&cache).names(b"0", &[8]).0.unwrap();
    keep(&cache, "0", &values);
    keep(&cache, "1", &values);
    assert!(!left.exists());
    for (age, path) in (1..).zip(files(folder.path())) {
        if path != foreign {
            long_ago(&path, 100 * age);
        }
    }
    // Of two that are old, the one that was used last stays.
    assert!(find(&cache, "0").is_some());
    keep(&cache, "2", &values);
    assert!(cache.path(&name).exists());
    assert!(find(&cache, "0").is_some() && find(&cache, "2").is_some());
    assert_eq!(find(&cache, "1"), None);
    assert!(foreign.exists());
    // What is larger than everything together is not kept.
    keep(&cache, "3", &[1.0; 1000]);
    assert_eq!(find(&cache, "3"), None);
    assert!(find(&cache, "0").is_some());
}
