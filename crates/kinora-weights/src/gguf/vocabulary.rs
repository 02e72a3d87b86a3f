//! The tokenizer that text encoders in GGUF files carry: tokens, their scores and kinds, and the table
//! of the normaliser, as llama.cpp's converters write them
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, "Tokenizer").
//!
//! They are what a SentencePiece model holds, and are put back into the form of one, so that
//! tokenizers are built in one way from whichever file they come.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use super::{GgufHeader, GgufValue};
use crate::{Error, Result};

/// Key of the kind of a tokenizer.
const MODEL: &str = "tokenizer.ggml.model";

/// Entries of a vocabulary; the largest published one has 262,208.
const MAX_TOKENS: u64 = 1 << 20;

/// Bytes of a vocabulary's texts with their lengths; the largest published ones have 5 MB.
const MAX_BYTES: u64 = 24 << 20;

/// Bytes of a normaliser's table; the largest published one has 300 kB.
const MAX_TABLE: u64 = 4 << 20;

/// The kind of a token that fills up the table of embeddings and stands for no text.
const UNUSED: i32 = 5;

/// The algorithm's number in a SentencePiece model; None for tokenizers of other kinds.
fn algorithm(model: &str) -> Option<u8> {
    match model {
        // Unigrams.
        "t5" => Some(1),
        // Byte pairs: Gemma's.
        "llama" => Some(2),
        _ => None,
    }
}

/// Whether a header's texts speak of a tokenizer that can be read.
pub(crate) fn has_spiece(texts: &BTreeMap<String, String>) -> bool {
    texts
        .get(MODEL)
        .is_some_and(|model| algorithm(model).is_some())
}

/// The tokenizer in a file as the bytes of a SentencePiece model; None when there is none.
pub(crate) fn read_spiece(file: &File, header: &GgufHeader) -> Result<Option<Vec<u8>>> {
    let text = |key: &str| header.metadata.get(key).and_then(GgufValue::as_str);
    let Some(algorithm) = text(MODEL).and_then(algorithm) else {
        return Ok(None);
    };
    let damaged = |reason: &str| {
        let reason = format!("its tokenizer cannot be used: {reason}");
        Error::damaged(&header.path, reason)
    };
    let Some(tokens) = header.metadata.get("tokenizer.ggml.tokens") else {
        return Err(damaged("it has no tokens"));
    };
    let tokens = read_texts(file, header, tokens)?.ok_or_else(|| damaged("odd tokens"))?;
    let numbers = |key: &str| -> Result<Vec<[u8; 4]>> {
        let missing = || damaged(&format!("it has no {key} for each token"));
        let value = header.metadata.get(&format!("tokenizer.ggml.{key}"));
        let numbers = read_numbers(file, header, value.ok_or_else(missing)?)?;
        let fits = |numbers: &Vec<[u8; 4]>| numbers.len() == tokens.len();
        numbers.filter(fits).ok_or_else(missing)
    };
    let (scores, kinds) = (numbers("scores")?, numbers("token_type")?);
    let kinds: Vec<i32> = kinds.into_iter().map(i32::from_le_bytes).collect();
    // What fills up the table, and the marks that T5's tokenizers add by themselves.
    let is_filler = |at: usize| {
        let name = String::from_utf8_lossy(&tokens[at]);
        kinds[at] == UNUSED || name.starts_with("<extra_id_")
    };
    let mut len = tokens.len();
    while len > 0 && is_filler(len - 1) {
        len -= 1;
    }
    let mut model = Vec::new();
    for at in 0..len {
        let mut piece = Vec::new();
        put_bytes(&mut piece, 1, &tokens[at]);
        piece.push(2 << 3 | 5);
        piece.extend(scores[at]);
        piece.push(3 << 3);
        put_varint(&mut piece, kinds[at].clamp(1, 6) as u64);
        put_bytes(&mut model, 1, &piece);
    }
    put_bytes(&mut model, 2, &[3 << 3, algorithm]);
    if let Some(table) = header.metadata.get("tokenizer.ggml.precompiled_charsmap") {
        let table = read_table(file, header, table)?.ok_or_else(|| damaged("an odd table"))?;
        let mut normaliser = Vec::new();
        put_bytes(&mut normaliser, 2, &table);
        put_bytes(&mut model, 3, &normaliser);
    }
    Ok(Some(model))
}

/// A field of bytes of a protocol buffer.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a place of the file that lies within it.
fn read_at(file: &File, header: &GgufHeader, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    let is_inside = (offset.checked_add(bytes)).is_some_and(|end| end <= header.file_bytes);
    if !is_inside || bytes > MAX_BYTES {
        return Err(Error::damaged(&header.path, "its tokenizer is too large"));
    }
    let mut buffer = vec![0; bytes as usize];
    file.read_exact_at(&mut buffer, offset)
        .map_err(Error::io(&header.path))?;
    Ok(buffer)
}

/// The texts of an array, as bytes.
fn read_texts(file: &File, header: &GgufHeader, value: &GgufValue) -> Result<Option<Vec<Vec<u8>>>> {
    let (len, offset) = match value {
        GgufValue::Array(texts) => {
            let texts = texts
                .iter()
                .map(|text| Some(text.as_str()?.as_bytes().to_vec()));
            return Ok(texts.collect());
        }
        GgufValue::LongArray {
            len,
            is_text: true,
            offset,
            ..
        } if *len <= MAX_TOKENS => (*len, *offset),
        _ => return Ok(None),
    };
    // The header's reader has gone over them: they end within the file. In one piece as far as they
    // are known to reach, instead of a call for each.
    let reach = MAX_BYTES.min(header.file_bytes.saturating_sub(offset));
    let bytes = read_at(file, header, offset, reach)?;
    let mut rest = bytes.as_slice();
    let mut texts = Vec::new();
    for _ in 0..len {
        let Some((size, after)) = rest.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let size = usize::try_from(u64::from_le_bytes(*size)).unwrap_or(usize::MAX);
        let Some((text, after)) = after.split_at_checked(size) else {
            return Ok(None);
        };
        texts.push(text.to_vec());
        rest = after;
    }
    Ok(Some(texts))
}

/// Numbers of 32 bits.
fn read_numbers(
    file: &File,
    header: &GgufHeader,
    value: &GgufValue,
) -> Result<Option<Vec<[u8; 4]>>> {
    match value {
        GgufValue::Array(values) => Ok((values.iter())
            .map(|value| match value {
                GgufValue::Float(number) => Some((*number as f32).to_le_bytes()),
                GgufValue::Signed(number) => Some((*number as i32).to_le_bytes()),
                _ => None,
            })
            .collect()),
        GgufValue::LongArray {
            len,
            size: 4,
            offset,
            ..
        } if *len <= MAX_TOKENS => {
            let bytes = read_at(file, header, *offset, 4 * len)?;
            Ok(Some(bytes.as_chunks::<4>().0.to_vec()))
        }
        _ => Ok(None),
    }
}

/// Bytes.
fn read_table(file: &File, header: &GgufHeader, value: &GgufValue) -> Result<Option<Vec<u8>>> {
    match value {
        GgufValue::Array(values) => Ok((values.iter())
            .map(|value| match value {
                GgufValue::Unsigned(number) => u8::try_from(*number).ok(),
                GgufValue::Signed(number) => i8::try_from(*number).ok().map(|byte| byte as u8),
                _ => None,
            })
            .collect()),
        GgufValue::LongArray {
            len,
            size: 1,
            offset,
            ..
        } if *len <= MAX_TABLE => Ok(Some(read_at(file, header, *offset, *len)?)),
        _ => Ok(None),
    }
}
