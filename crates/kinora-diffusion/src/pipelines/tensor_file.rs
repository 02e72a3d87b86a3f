//! Small safetensors files that the pipelines write for themselves: complete under their name, or not
//! there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde_json::{Map, Value, json};

/// A file while its tensors come.
#[derive(Default)]
pub(crate) struct TensorFile {
    tensors: Map<String, Value>,
    body: Vec<u8>,
}

impl TensorFile {
    /// Adds a tensor: `dtype` as the format calls it, `bytes` little-endian and row by row.
    pub fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.body.len();
        self.body.extend(bytes);
        let tensor = json!({
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [start, self.body.len()],
        });
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// The whole file; `metadata` is an object of texts.
    pub fn finish(mut self, metadata: Value) -> Vec<u8> {
        self.tensors.insert("__metadata__".to_owned(), metadata);
        let mut header = Value::Object(self.tensors).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + header.len() + self.body.len());
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(self.body);
        bytes
    }
}

/// Writes a file under a temporary name in the same folder, syncs it, then renames it.
pub(crate) fn write_atomically(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().inspect_err(|_| {
        // Best effort: what is left of a failed write is of no use.
        let _ = fs::remove_file(temporary);
    })
}
