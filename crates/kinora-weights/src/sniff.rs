//! What a file is, by its first bytes whatever its name, and in words why it is refused.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use crate::{Error, Result, header::MAX_HEADER_BYTES};

/// A kind of weight file that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// JSON header, then tensors.
    Safetensors,
    /// Binary header, then tensors in blocks.
    Gguf,
}

/// How much of a file is looked at: a tar archive shows itself at byte 257.
const SNIFFED_BYTES: usize = 512;

const PICKLE: &str = "it is a pickle (.ckpt, .pt, .bin), which can run programs when it is opened; \
                      get the model as .safetensors, or convert it";

/// Tells the kind of a file, or refuses it.
pub fn sniff(path: &Path) -> Result<Container> {
    let file = File::open(path).map_err(Error::io(path))?;
    sniff_open(path, &file).map(|(container, _)| container)
}

/// Tells the kind of an open file, and its size.
pub(crate) fn sniff_open(path: &Path, file: &File) -> Result<(Container, u64)> {
    let metadata = file.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(Error::unsupported(path, "it is not a file"));
    }
    let file_bytes = metadata.len();
    let mut start = [0; SNIFFED_BYTES];
    let len = usize::try_from(file_bytes).map_or(SNIFFED_BYTES, |len| len.min(SNIFFED_BYTES));
    file.read_exact_at(&mut start[..len], 0)
        .map_err(Error::io(path))?;
    let start = &start[..len];
    if start.starts_with(b"GGUF") {
        return Ok((Container::Gguf, file_bytes));
    }
    if let Some(reason) = name_other_format(start) {
        return Err(Error::unsupported(path, reason));
    }
    if len >= 8 && start.iter().all(|byte| *byte == 0) {
        return Err(Error::damaged(
            path,
            "it begins with nothing but zeros; the download may have reserved its space and \
             never finished",
        ));
    }
    Ok((Container::Safetensors, file_bytes))
}

/// Why a file that begins like this is not read; None when it may be a safetensors file.
fn name_other_format(start: &[u8]) -> Option<&'static str> {
    if is_safetensors_length(start) {
        return None;
    }
    let has = |needle: &[u8]| start.windows(needle.len()).any(|part| part == needle);
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = text.trim_ascii_start();
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    Some(if start.starts_with(b"PK\x03\x04") {
        if has(b".pkl") || has(b"/version") || has(b"/byteorder") {
            PICKLE
        } else {
            "it is a ZIP archive, as pickles (.ckpt, .pt) are; get the model as .safetensors, or \
             unpack it if it is a packed download"
        }
    } else if is_pickle(start) {
        PICKLE
    } else if start.get(257..262) == Some(b"ustar") {
        "it is a tar archive (of pickles, if it ends in .tar, .pt or .nemo), which is not opened; \
         get the model as .safetensors"
    } else if start.starts_with(b"\x1f\x8b") || start.starts_with(b"\x28\xb5\x2f\xfd") {
        "it is packed (gzip or zstd); unpack it first"
    } else if start.starts_with(b"7z\xbc\xaf\x27\x1c") || start.starts_with(b"Rar!\x1a") {
        "it is a 7z or RAR archive; unpack it first"
    } else if start.starts_with(b"\x89HDF") {
        "it is an HDF5 file (Keras), which is not read; get the model as .safetensors"
    } else if start.starts_with(b"lmgg") || start.starts_with(b"tjgg") || start.starts_with(b"fmgg")
    {
        "it is a GGML file from before GGUF, which is not read; get the model as GGUF or .safetensors"
    } else if begins(b"version https://") {
        "it is only a pointer to the real file (Git LFS); download the file itself"
    } else if begins(b"<!doctype") || begins(b"<html") || begins(b"<?xml") || begins(b"<!--") {
        "it is a web page, not a model; the download needs a login or an accepted licence"
    } else if begins(b"{") || begins(b"[") {
        "it is JSON text, not a model: perhaps a server's error message, saved under the model's name"
    } else {
        return None;
    })
}

/// Whether the file begins with the length of a header that a safetensors file could have,
/// followed by an object. Nothing else begins so: text and magic numbers make huge lengths.
fn is_safetensors_length(start: &[u8]) -> bool {
    start.first_chunk::<8>().is_some_and(|length| {
        u64::from_le_bytes(*length) <= MAX_HEADER_BYTES
            && start.get(8).is_none_or(|byte| *byte == b'{')
            && !start.iter().all(|byte| *byte == 0)
    })
}

/// Whether the bytes begin a pickle: protocols 2 to 5 with their mark, 0 and 1 with the opcodes
/// that dictionaries, lists and globals begin with.
fn is_pickle(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, ..])
        || [
            &b"(dp"[..],
            b"(lp",
            b"}q",
            b"]q",
            b"ccollections\n",
            b"ctorch",
        ]
        .iter()
        .any(|begin| start.starts_with(begin))
}
