//! The header of a GGUF file (versions 2 and 3), checked completely before any tensor is read.
//!
//! Layout of the file: magic, version, number of tensors and of values, the values, the tensors'
//! names, sizes, formats and offsets, then the tensors' bytes, each aligned. Sizes are listed
//! innermost first; here they are outermost first as everywhere. See
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! What a name means, and names of text encoders in llama.cpp's files, is told in [`crate::maps`].

mod value;
mod vocabulary;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

pub use value::GgufValue;
pub(crate) use vocabulary::{has_spiece, read_spiece};

use crate::{
    Dtype, Error, Result, TensorInfo,
    dtype::ggml_name,
    sniff::{Container, sniff_open},
};
use value::Cursor;

/// Bound on the header. Those of language models with large vocabularies have some 20 MB.
const MAX_HEADER_BYTES: u64 = 512 << 20;

/// Bound on the number of dimensions in the file.
const MAX_RANK: u32 = 8;

/// Bytes that the shortest entry of a tensor has: lengths, rank, one size, format, offset.
const SHORTEST_ENTRY: u64 = 8 + 4 + 8 + 4 + 8;

/// Key under which converters for ComfyUI keep the shape of a tensor that was reshaped to fit.
const ORIGINAL_SHAPE: &str = "comfy.gguf.orig_shape.";

/// The checked header of one GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufHeader {
    /// The file.
    pub path: PathBuf,
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Values by key.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by name, with their original shapes.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Size of the whole file in bytes.
    pub file_bytes: u64,
}

impl GgufHeader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<(File, Self)> {
        let file = File::open(path).map_err(Error::io(path))?;
        let (container, file_bytes) = sniff_open(path, &file)?;
        if container != Container::Gguf {
            return Err(Error::unsupported(path, "it is not a GGUF file"));
        }
        let reader = file.try_clone().map_err(Error::io(path))?;
        let header =
            Self::parse(path, reader, file_bytes).map_err(|reason| Error::damaged(path, reason))?;
        Ok((file, header?))
    }

    /// `general.architecture`: what ComfyUI's converters name `flux`, `sdxl`, `wan` …
    pub fn architecture(&self) -> Option<&str> {
        self.metadata.get("general.architecture")?.as_str()
    }

    /// The outer error says that the file is damaged, the inner one that it is not read here.
    fn parse(path: &Path, file: File, file_bytes: u64) -> Result<Result<Self>, String> {
        let mut cursor = Cursor::new(file, file_bytes.min(MAX_HEADER_BYTES));
        cursor.u32()?;
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            let reason = if version.swap_bytes() < 100 {
                "it is a GGUF file of a big-endian machine, which is not read".to_owned()
            } else {
                format!("it is a GGUF file of version {version}; versions 2 and 3 are read")
            };
            return Ok(Err(Error::unsupported(path, reason)));
        }
        let tensor_count = cursor.u64()?;
        let value_count = cursor.u64()?;
        if tensor_count
            .checked_mul(SHORTEST_ENTRY)
            .is_none_or(|bytes| bytes > cursor.left())
        {
            return Err(format!(
                "it announces {tensor_count} tensors, but has only {file_bytes} bytes in all; the \
                 download may be cut off"
            ));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let value = cursor
                .value(kind)
                .map_err(|reason| format!("value {key:?}: {reason}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("{key:?} occurs twice"));
            }
        }
        let mut entries = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = cursor.text()?;
            let entry =
                Entry::read(&mut cursor).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(format!("{name:?} occurs twice"));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(value) => value
                .as_u64()
                .filter(|value| value.is_power_of_two() && *value <= 1 << 20)
                .ok_or_else(|| format!("its alignment {value:?} is impossible"))?,
        };
        let data_start = cursor.position().next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        let mut spans = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let Some(dtype) = Dtype::from_ggml(entry.format) else {
                return Ok(Err(Error::unsupported(
                    path,
                    format!(
                        "tensor {name:?} is stored as {}, which is not read; get the model in one \
                         of the formats {}",
                        ggml_name(entry.format),
                        Dtype::all_ggml()
                            .filter(|dtype| dtype.is_block())
                            .map(Dtype::as_str)
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                )));
            };
            let original = metadata.get(&format!("{ORIGINAL_SHAPE}{name}"));
            let info = entry
                .check(dtype, original, (data_start, file_bytes, alignment))
                .map_err(|reason| format!("tensor {name:?}: {reason}"))?;
            spans.push((info.offset, info.bytes, name.clone()));
            tensors.insert(name, info);
        }
        check_spans(&mut spans)?;
        Ok(Ok(Self {
            path: path.to_owned(),
            version,
            metadata,
            tensors,
            file_bytes,
        }))
    }
}

/// Tensors may leave gaps, but none may lie in another.
fn check_spans(spans: &mut [(u64, usize, String)]) -> Result<(), String> {
    spans.sort();
    let mut end = 0;
    for (offset, bytes, name) in spans {
        if *offset < end && *bytes > 0 {
            return Err(format!("tensor {name:?} overlaps the one before it"));
        }
        end = end.max(*offset + *bytes as u64);
    }
    Ok(())
}

/// A tensor as the header lists it.
struct Entry {
    /// Innermost first.
    sizes: Vec<u64>,
    format: u32,
    offset: u64,
}

impl Entry {
    fn read(cursor: &mut Cursor) -> Result<Self, String> {
        let rank = cursor.u32()?;
        if rank > MAX_RANK {
            return Err(format!("it has {rank} dimensions"));
        }
        Ok(Self {
            sizes: (0..rank).map(|_| cursor.u64()).collect::<Result<_, _>>()?,
            format: cursor.u32()?,
            offset: cursor.u64()?,
        })
    }

    fn check(
        &self,
        dtype: Dtype,
        original: Option<&GgufValue>,
        (data_start, file_bytes, alignment): (u64, u64, u64),
    ) -> Result<TensorInfo, String> {
        let stored: Vec<u64> = self.sizes.iter().rev().copied().collect();
        // Blocks never cross the end of a row, so the row as stored decides, not the original one.
        let row = stored.last().copied().unwrap_or(1);
        if !row.is_multiple_of(dtype.block_len() as u64) {
            return Err(format!(
                "its rows of {row} numbers are no whole blocks of {dtype}"
            ));
        }
        let elements = count(&stored)?;
        let bytes = dtype
            .bytes_of(elements)
            .ok_or_else(|| format!("its shape {stored:?} is impossible"))?;
        if !self.offset.is_multiple_of(alignment) {
            return Err(format!(
                "it begins at {}, which is not aligned to {alignment}",
                self.offset
            ));
        }
        let begin = data_start.checked_add(self.offset);
        let end = begin.and_then(|begin| begin.checked_add(bytes));
        let (Some(begin), Some(_)) = (begin, end.filter(|end| *end <= file_bytes)) else {
            return Err(format!(
                "its {bytes} bytes from {} on end after the file's {file_bytes} bytes; the \
                 download may be cut off",
                self.offset
            ));
        };
        let shape = match original {
            None => stored,
            Some(value) => {
                let shape = read_shape(value).ok_or_else(|| {
                    format!("its original shape {value:?} is not a list of sizes")
                })?;
                if count(&shape)? != elements {
                    return Err(format!(
                        "its original shape {shape:?} has other numbers than {stored:?}"
                    ));
                }
                shape
            }
        };
        let too_large = |_| "it does not fit into memory".to_owned();
        Ok(TensorInfo {
            dtype,
            shape: shape
                .iter()
                .map(|size| usize::try_from(*size))
                .collect::<Result<_, _>>()
                .map_err(too_large)?,
            offset: begin,
            bytes: usize::try_from(bytes).map_err(too_large)?,
        })
    }
}

fn read_shape(value: &GgufValue) -> Option<Vec<u64>> {
    let GgufValue::Array(sizes) = value else {
        return None;
    };
    (sizes.len() <= 12).then(|| sizes.iter().map(GgufValue::as_u64).collect())?
}

/// Numbers in a tensor. A size of 0 counts as 1 in the bound, so that no product of some of the
/// sizes overflows later.
fn count(shape: &[u64]) -> Result<u64, String> {
    let bound = shape
        .iter()
        .try_fold(1_u64, |product, size| product.checked_mul(*size.max(&1)));
    match bound.filter(|bound| bound.checked_mul(8).is_some()) {
        None => Err(format!("its shape {shape:?} is impossible")),
        Some(_) if shape.contains(&0) => Ok(0),
        Some(elements) => Ok(elements),
    }
}
