//! Small text files beside the weights, read with a bound and parsed with the path in the error.

use std::{fs::File, io::Read, path::Path};

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// No configuration file is larger than this.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Reads a whole file that must not be larger than `limit` bytes.
pub fn read_file_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::damaged(
            path,
            format!("it is larger than {limit} bytes, which no file of this kind is"),
        ));
    }
    Ok(bytes)
}

/// Parses a JSON file of at most `limit` bytes.
pub(crate) fn read_json_bounded<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T> {
    let bytes = read_file_bounded(path, limit)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, error.to_string()))
}

/// Parses a configuration file.
pub(crate) fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read_json_bounded(path, MAX_CONFIG_BYTES)
}

/// Python writes numbers that JSON has not; they stand for "not given" here.
pub fn without_infinities(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    let mut is_text = false;
    while let Some(first) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !is_text && rest.starts_with(word));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        let mut taken = first.len_utf8();
        if first == '"' {
            is_text = !is_text;
        } else if first == '\\' && is_text {
            taken += rest[1..].chars().next().map_or(0, char::len_utf8);
        }
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}
