//! The file of one encoded text: its tensors, its name and a digest of both.

use std::{fs, path::Path};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{Dtype, Header, WeightSet};

use crate::{
    Error, Result,
    pipelines::{checkpoint::Identity, tensor_file::TensorFile},
};

/// Of a file's layout; a file of another version is not used.
const VERSION: &str = "1";
/// No text becomes as much, in bytes.
pub(super) const MAX_ENTRY: u64 = 256 << 20;

/// Number formats of the tensors that are kept, as files call them.
fn name_of(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("F32"),
        DType::F16 => Some("F16"),
        DType::BF16 => Some("BF16"),
        _ => None,
    }
}

fn dtype_of(stored: Dtype) -> Option<DType> {
    match stored {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::Bf16 => Some(DType::BF16),
        _ => None,
    }
}

/// A tensor's numbers, little-endian and row by row.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => join(&flat.to_vec1::<f32>()?, f32::to_le_bytes),
        DType::F16 => join(&flat.to_vec1::<half::f16>()?, half::f16::to_le_bytes),
        _ => join(&flat.to_vec1::<half::bf16>()?, half::bf16::to_le_bytes),
    })
}

fn join<T: Copy, const B: usize>(values: &[T], to_bytes: fn(T) -> [u8; B]) -> Vec<u8> {
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

/// Over the name, and over every tensor with its name, format and shape.
struct EntryDigest(Identity);

impl EntryDigest {
    fn new(name: &str) -> Self {
        let mut identity = Identity::new();
        identity.add(name.as_bytes());
        Self(identity)
    }

    fn add(&mut self, part: &str, dtype: DType, shape: &[usize], bytes: &[u8]) {
        self.0
            .add(format!("{part} {} {shape:?}", dtype.as_str()).as_bytes());
        self.0.add(bytes);
    }
}

/// The file of these tensors under this name.
pub(super) fn to_bytes(name: &str, tensors: &[(&str, &Tensor)]) -> Result<Vec<u8>> {
    let mut file = TensorFile::default();
    let mut digest = EntryDigest::new(name);
    for (part, tensor) in tensors {
        let dtype = tensor.dtype();
        let stored = name_of(dtype)
            .ok_or_else(|| Error::Shape(format!("keep a text as {}", dtype.as_str())))?;
        let bytes = bytes_of(tensor)?;
        digest.add(part, dtype, tensor.dims(), &bytes);
        file.add(part, stored, tensor.dims(), &bytes);
    }
    Ok(file.finish(serde_json::json!({
        "kinora_text": VERSION,
        "name": name,
        "digest": digest.0.finish(),
    })))
}

/// The tensors of a file that holds what belongs under this name.
pub(super) fn read_entry<const N: usize>(
    path: &Path,
    name: &str,
    parts: [&str; N],
    device: &Device,
) -> Result<[Tensor; N]> {
    let damaged = |reason: &str| Error::bad_weights(path, reason);
    let metadata = fs::symlink_metadata(path).map_err(Error::io(path))?;
    if !metadata.is_file() || metadata.len() > MAX_ENTRY {
        return Err(damaged("it is no encoded text"));
    }
    let (_, header) = Header::open(path)?;
    let field = |name: &str| header.metadata.get(name).map(String::as_str);
    if (field("kinora_text"), field("name")) != (Some(VERSION), Some(name)) {
        return Err(damaged("it is no encoded text of that name"));
    }
    let set = WeightSet::open_file(path)?;
    let mut digest = EntryDigest::new(name);
    let mut tensors = Vec::with_capacity(N);
    for part in parts {
        let view = set.get(part)?;
        let dtype =
            dtype_of(view.dtype).ok_or_else(|| damaged("its numbers have an unusual format"))?;
        let bytes = set.read(part)?;
        digest.add(part, dtype, &view.shape, &bytes);
        tensors.push((bytes, dtype, view.shape.clone()));
    }
    if field("digest") != Some(digest.0.finish().as_str()) {
        return Err(damaged("its content is not what was written"));
    }
    let tensors = tensors
        .into_iter()
        .map(|(bytes, dtype, shape)| Tensor::from_raw_buffer(&bytes, dtype, &shape, device))
        .collect::<candle_core::Result<Vec<_>>>()?;
    tensors
        .try_into()
        .map_err(|_| damaged("it holds too few tensors"))
}
