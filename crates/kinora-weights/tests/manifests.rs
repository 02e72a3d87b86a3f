//! Published files at their true sizes (tools/goldens/manifests.py): each is recognised from its
//! header, and each of its networks arrives at exactly the names and shapes of the reference's own
//! state dict. And small files through the reference's own converters: the same bytes arrive.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use common::{
    recorded::{Manifests, Table, crc, read, unfold},
    write_sparse,
};
use kinora_weights::{FilePart, WeightSet, identify, identify_set};
use serde::Deserialize;
use serde_json::json;

fn names_and_shapes(set: &WeightSet) -> Table {
    set.tensors()
        .map(|(name, view)| (name.to_owned(), view.shape.clone()))
        .collect()
}

fn describe(part: &FilePart) -> String {
    format!("{:?} {:?} {:?}", part.prefix, part.names, part.network)
}

#[test]
fn every_published_file_is_recognised_and_arrives_complete() {
    let manifests: Manifests = read("manifests.json.gz");
    let folder = tempfile::tempdir().unwrap();
    let mut answers = String::new();
    let mut slowest = Duration::ZERO;
    for (name, file) in &manifests.files {
        let path = folder.path().join("x.safetensors");
        write_sparse(&path, unfold(&file.stored).into_iter().collect());
        // Parsing the JSON is the standard library's affair, which tests do not optimise.
        let set = WeightSet::open_file(&path).unwrap();
        let start = Instant::now();
        let identity = identify_set(&set).unwrap_or_else(|error| panic!("{name}: {error}"));
        slowest = slowest.max(start.elapsed());
        writeln!(answers, "{name}: {:?}", identity.release).unwrap();
        let mut unmatched: BTreeSet<&str> = file
            .parts
            .iter()
            .map(|(_, _, network)| network.as_str())
            .collect();
        for part in &identity.parts {
            writeln!(answers, "    {}", describe(part)).unwrap();
            let opened = part.open(&set).unwrap();
            let ours = names_and_shapes(&opened.set);
            let network = unmatched
                .iter()
                .find(|network| unfold(&manifests.networks[**network]) == ours);
            let Some(network) = network.copied() else {
                let near = file
                    .parts
                    .iter()
                    .map(|(_, _, network)| unfold(&manifests.networks[network]));
                let best = near
                    .min_by_key(|table| difference(table, &ours).len())
                    .unwrap();
                panic!(
                    "{name}, {}: {:?}",
                    describe(part),
                    &difference(&best, &ours)[..8.min(difference(&best, &ours).len())]
                );
            };
            unmatched.remove(network);
        }
        assert!(unmatched.is_empty(), "{name}: {unmatched:?} not found");
    }
    insta::assert_snapshot!(answers);
    println!("the slowest file took {slowest:?}");
    // Some 10 ms for the largest on a quiet machine.
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

fn difference(a: &Table, b: &Table) -> Vec<String> {
    let only = |a: &Table, b: &Table, sign: &str| -> Vec<String> {
        a.iter()
            .filter(|(name, shape)| b.get(*name) != Some(shape))
            .map(|(name, shape)| format!("{sign}{name} {shape:?}"))
            .collect()
    };
    [only(a, b, "-"), only(b, a, "+")].concat()
}

#[derive(Deserialize)]
struct Conversion {
    file: String,
    layout: String,
    prefix: String,
    network: String,
    source: Table,
    /// Shape and CRC-32 of the bytes.
    target: BTreeMap<String, (Vec<usize>, u32)>,
}

/// The numbers that the recorder filled a tensor with.
fn fill(name: &str, shape: &[usize]) -> Vec<u8> {
    let start = crc(name.as_bytes());
    (0..shape.iter().product::<usize>())
        .flat_map(|index| {
            let value = (index as u32).wrapping_mul(2654435761).wrapping_add(start);
            ((value >> 16) as u16).to_le_bytes()
        })
        .collect()
}

fn write_filled(path: &Path, tables: &Table) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape) in tables {
        let begin = data.len();
        data.extend(fill(name, shape));
        header.insert(
            name.clone(),
            json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()] }),
        );
    }
    fs::write(
        path,
        common::join(&serde_json::Value::Object(header).to_string(), &data),
    )
    .unwrap();
}

#[test]
fn the_references_converters_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let manifests: Manifests = read("manifests.json.gz");
    let conversions: Vec<Conversion> = read("conversions.json.gz");
    for conversion in &conversions {
        let Conversion {
            file,
            layout,
            prefix,
            network,
            source,
            target,
        } = conversion;
        // The true file tells layout and prefix; the numbers of a small one would be refused.
        write_sparse(
            &path,
            unfold(&manifests.files[file].stored).into_iter().collect(),
        );
        let identity = identify(&path).unwrap();
        let mut source = source.clone();
        let mut unknown = Vec::new();
        if layout == "open_clip" && file.starts_with("sd2") {
            // SD 2.x never uses the last block, which the recorder leaves out.
            let unused = "transformer.resblocks.2.ln_1.weight".to_owned();
            source.insert(format!("{prefix}{unused}"), vec![8]);
            unknown.push(unused);
        }
        write_filled(&path, &source);
        let set = WeightSet::open_file(&path).unwrap();
        let part = identity.parts.iter().find(|part| part.prefix == *prefix);
        let part = part.unwrap_or_else(|| panic!("{file} {layout}: {:?}", identity.parts));
        let opened = part.open(&set).unwrap();
        assert_eq!(opened.unknown, unknown, "{file} {layout} {network}");
        let ours: BTreeMap<String, (Vec<usize>, u32)> = opened
            .set
            .tensors()
            .map(|(name, view)| {
                (
                    name.to_owned(),
                    (view.shape.clone(), crc(&opened.set.read(name).unwrap())),
                )
            })
            .collect();
        for (name, theirs) in target {
            assert_eq!(
                ours.get(name),
                Some(theirs),
                "{file} {layout} {network}: {name}"
            );
        }
        assert_eq!(ours.len(), target.len(), "{file} {layout} {network}");
    }
    assert_eq!(conversions.len(), 17);
}
