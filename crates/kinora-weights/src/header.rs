//! The header of one safetensors file: read first, and checked completely before any tensor is.
//!
//! Layout of the file: 8 bytes little-endian header length, that many bytes of JSON, then the
//! tensors' bytes without gaps. See <https://github.com/huggingface/safetensors#format>.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    Dtype, Error, Result,
    sniff::{Container, sniff_open},
};

/// Bound on the header, as in the reference implementation. The largest published headers are
/// below 2 MB.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bound on the number of dimensions; more than any network has.
const MAX_RANK: usize = 12;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Number format.
    pub dtype: Dtype,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the beginning of the file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: usize,
}

/// The checked header of one safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The file.
    pub path: PathBuf,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Free texts that the writer of the file left.
    pub metadata: BTreeMap<String, String>,
    /// Size of the whole file in bytes.
    pub file_bytes: u64,
}

impl Header {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<(File, Self)> {
        let file = File::open(path).map_err(Error::io(path))?;
        let (container, file_bytes) = sniff_open(path, &file)?;
        if container != Container::Safetensors {
            return Err(Error::unsupported(
                path,
                "it is a GGUF file where a safetensors file is needed",
            ));
        }
        Self::read(path, file, file_bytes)
    }

    /// Reads the header of an open file that does not begin like another kind of file.
    pub(crate) fn read(path: &Path, file: File, file_bytes: u64) -> Result<(File, Self)> {
        let mut start = [0; 8];
        let head = usize::try_from(file_bytes.min(8)).unwrap_or(8);
        file.read_exact_at(&mut start[..head], 0)
            .map_err(Error::io(path))?;
        let header_bytes = check_header_length(path, &start[..head], file_bytes)?;
        // Bounded by MAX_HEADER_BYTES and by the file's own size.
        let mut json = vec![0; header_bytes];
        file.read_exact_at(&mut json, 8).map_err(Error::io(path))?;
        let header = Self::parse(path, &json, file_bytes)?;
        Ok((file, header))
    }

    /// Checks the JSON of a header against the size of its file.
    pub fn parse(path: &Path, json: &[u8], file_bytes: u64) -> Result<Self> {
        let damaged = |reason: String| Error::damaged(path, reason);
        let raw: RawHeader = serde_json::from_slice(json)
            .map_err(|error| damaged(format!("its header is not understood: {error}")))?;
        let data_start = 8 + json.len() as u64;
        let data_bytes = file_bytes.checked_sub(data_start).ok_or_else(|| {
            damaged(format!(
                "its header ends at byte {data_start}, the file at byte {file_bytes}"
            ))
        })?;
        let mut tensors = BTreeMap::new();
        let mut spans = Vec::with_capacity(raw.tensors.len());
        for (name, tensor) in raw.tensors {
            let info = tensor
                .check(data_start, data_bytes)
                .map_err(|reason| damaged(format!("tensor {name:?}: {reason}")))?;
            spans.push((tensor.data_offsets, name.clone()));
            tensors.insert(name, info);
        }
        check_spans(&mut spans, data_bytes).map_err(damaged)?;
        Ok(Self {
            path: path.to_owned(),
            tensors,
            metadata: raw.metadata,
            file_bytes,
        })
    }
}

fn check_header_length(path: &Path, start: &[u8], file_bytes: u64) -> Result<usize> {
    let Some(length) = start.first_chunk::<8>() else {
        return Err(Error::damaged(
            path,
            format!("it has {file_bytes} bytes, too few for a header"),
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(Error::damaged(
            path,
            format!(
                "it announces a header of {length} bytes; more than {MAX_HEADER_BYTES} is not read. It may not be a safetensors file at all"
            ),
        ));
    }
    if length > file_bytes - 8 {
        return Err(Error::damaged(
            path,
            format!(
                "it announces a header of {length} bytes, but has only {file_bytes} bytes in all; the download may be cut off"
            ),
        ));
    }
    usize::try_from(length).map_err(|_| Error::damaged(path, "its header does not fit into memory"))
}

/// Tensors must follow each other without gap or overlap and fill the file.
fn check_spans(spans: &mut [([u64; 2], String)], data_bytes: u64) -> Result<(), String> {
    spans.sort();
    let mut end = 0;
    for ([begin, next], name) in spans {
        if *begin != end {
            let what = if *begin < end {
                "overlaps"
            } else {
                "leaves a gap to"
            };
            return Err(format!("tensor {name:?} {what} the one before it"));
        }
        end = *next;
    }
    if end != data_bytes {
        return Err(format!(
            "its tensors end {end} bytes after the header, the file {data_bytes} bytes after it; \
             the download may be cut off"
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl RawTensor {
    fn check(&self, data_start: u64, data_bytes: u64) -> Result<TensorInfo, String> {
        let dtype = Dtype::parse(&self.dtype)
            .ok_or_else(|| format!("the number format {:?} is unknown", self.dtype))?;
        if self.shape.len() > MAX_RANK {
            return Err(format!("it has {} dimensions", self.shape.len()));
        }
        let [begin, end] = self.data_offsets;
        if begin > end || end > data_bytes {
            return Err(format!("it lies at bytes {begin} to {end} of {data_bytes}"));
        }
        // A size of 0 counts as 1 here, so that no product of some of the sizes overflows later.
        let bound = self
            .shape
            .iter()
            .try_fold(dtype.block_bytes() as u64, |product, size| {
                product.checked_mul(*size.max(&1))
            });
        let bytes = match bound {
            None => return Err(format!("its shape {:?} is impossible", self.shape)),
            Some(_) if self.shape.contains(&0) => 0,
            Some(bytes) => bytes,
        };
        if bytes != end - begin {
            return Err(format!(
                "its shape {:?} of {dtype} needs {bytes} bytes, it has {}",
                self.shape,
                end - begin
            ));
        }
        let too_large = |_| "it does not fit into memory".to_owned();
        Ok(TensorInfo {
            dtype,
            shape: self
                .shape
                .iter()
                .map(|size| usize::try_from(*size))
                .collect::<Result<_, _>>()
                .map_err(too_large)?,
            offset: data_start + begin,
            bytes: usize::try_from(bytes).map_err(too_large)?,
        })
    }
}

/// The header's JSON object, with a name that occurs twice refused.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let is_new = if name == "__metadata__" {
                        metadata.replace(map.next_value()?).is_none()
                    } else {
                        tensors.insert(name.clone(), map.next_value()?).is_none()
                    };
                    if !is_new {
                        return Err(A::Error::custom(format!("{name:?} occurs twice")));
                    }
                }
                Ok(RawHeader {
                    metadata: metadata.unwrap_or_default(),
                    tensors,
                })
            }
        }

        deserializer.deserialize_map(Members)
    }
}
