//! What the recorders in tools/goldens wrote: names and shapes of published files, and what the
//! reference's converters make of them.

use std::{collections::BTreeMap, fs::File, io::Read, path::PathBuf};

use flate2::{Crc, read::GzDecoder};
use serde::{Deserialize, de::DeserializeOwned};

pub type Table = BTreeMap<String, Vec<usize>>;

/// Name with its first number as {}, shape, the numbers.
pub type Folded = (String, Vec<usize>, Vec<usize>);

#[derive(Deserialize)]
pub struct Manifests {
    pub networks: BTreeMap<String, Vec<Folded>>,
    pub files: BTreeMap<String, Recorded>,
}

#[derive(Deserialize)]
pub struct Recorded {
    /// Prefix, layout, network.
    pub parts: Vec<(String, String, String)>,
    pub stored: Vec<Folded>,
}

pub fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../kinora-weights/tests/data")
        .join(name);
    let mut json = Vec::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_end(&mut json)
        .unwrap();
    serde_json::from_slice(&json).unwrap()
}

pub fn unfold(folded: &[Folded]) -> Table {
    let mut table = Table::new();
    for (pattern, shape, numbers) in folded {
        if numbers.is_empty() {
            table.insert(pattern.clone(), shape.clone());
        }
        for number in numbers {
            table.insert(
                pattern.replacen("{}", &number.to_string(), 1),
                shape.clone(),
            );
        }
    }
    table
}

pub fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
