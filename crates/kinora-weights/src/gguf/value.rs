//! The values of a GGUF header, and a reader that never goes beyond its bound.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

/// Arrays up to this length are kept; of longer ones (vocabularies) only their place is.
const KEPT_ARRAY: u64 = 64;

/// Arrays may hold arrays; nothing published nests deeper than once.
const MAX_DEPTH: usize = 4;

/// A value of a GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// Any unsigned number.
    Unsigned(u64),
    /// Any signed number.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text. Bytes that are not UTF-8 are replaced.
    Text(String),
    /// A short array.
    Array(Vec<GgufValue>),
    /// A long array, not read: number of elements, and where the first one begins in the file.
    LongArray {
        /// Number of elements.
        len: u64,
        /// Whether they are texts, each a length of 8 bytes and its bytes.
        is_text: bool,
        /// Bytes of each element; the fewest where they differ.
        size: u64,
        /// First byte, counted from the beginning of the file.
        offset: u64,
    },
}

impl GgufValue {
    /// The number, if it is a whole one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            GgufValue::Unsigned(value) => Some(*value),
            GgufValue::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            GgufValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a header front to back. Every length is held against the bytes that are left.
pub(super) struct Cursor {
    reader: BufReader<File>,
    at: u64,
    end: u64,
}

impl Cursor {
    /// `end` is the bound: the size of the file or less.
    pub fn new(file: File, end: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, file),
            at: 0,
            end,
        }
    }

    pub fn position(&self) -> u64 {
        self.at
    }

    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.advance(N as u64)?;
        self.reader
            .read_exact(&mut bytes)
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Counts bytes as read.
    fn advance(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > self.left() {
            return Err(format!(
                "its header goes on beyond byte {}; the download may be cut off",
                self.end
            ));
        }
        self.at += bytes;
        Ok(())
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A text: its length, then its bytes.
    pub fn text(&mut self) -> Result<String, String> {
        let len = self.u64()?;
        self.advance(len)?;
        // Bounded by what is left of the file; what is not there is never allocated.
        let mut bytes = Vec::new();
        self.reader
            .by_ref()
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.advance(bytes)?;
        self.reader
            .seek(SeekFrom::Start(self.at))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// A value of the kind with this number.
    pub fn value(&mut self, kind: u32) -> Result<GgufValue, String> {
        self.value_at(kind, 0)
    }

    fn value_at(&mut self, kind: u32, depth: usize) -> Result<GgufValue, String> {
        Ok(match kind {
            0 => GgufValue::Unsigned(self.take::<1>()?[0].into()),
            1 => GgufValue::Signed(i8::from_le_bytes(self.take()?).into()),
            2 => GgufValue::Unsigned(u16::from_le_bytes(self.take()?).into()),
            3 => GgufValue::Signed(i16::from_le_bytes(self.take()?).into()),
            4 => GgufValue::Unsigned(self.u32()?.into()),
            5 => GgufValue::Signed(i32::from_le_bytes(self.take()?).into()),
            6 => GgufValue::Float(f32::from_le_bytes(self.take()?).into()),
            7 => GgufValue::Bool(self.take::<1>()?[0] != 0),
            8 => GgufValue::Text(self.text()?),
            9 => self.array(depth + 1)?,
            10 => GgufValue::Unsigned(self.u64()?),
            11 => GgufValue::Signed(i64::from_le_bytes(self.take()?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.take()?)),
            other => return Err(format!("it has a value of the unknown kind {other}")),
        })
    }

    fn array(&mut self, depth: usize) -> Result<GgufValue, String> {
        if depth > MAX_DEPTH {
            return Err(format!("its arrays nest deeper than {MAX_DEPTH} times"));
        }
        let kind = self.u32()?;
        let len = self.u64()?;
        let size = size_of(kind).ok_or_else(|| format!("it has an array of the kind {kind}"))?;
        if len
            .checked_mul(size)
            .is_none_or(|bytes| bytes > self.left())
        {
            return Err(format!("it has an array of {len} values"));
        }
        if len <= KEPT_ARRAY {
            let values = (0..len)
                .map(|_| self.value_at(kind, depth))
                .collect::<Result<_, _>>()?;
            return Ok(GgufValue::Array(values));
        }
        let offset = self.at;
        match kind {
            8 => {
                for _ in 0..len {
                    let bytes = self.u64()?;
                    // Short texts are read through: seeking would empty the buffer each time.
                    if bytes < 1 << 12 {
                        self.text_of(bytes)?;
                    } else {
                        self.skip(bytes)?;
                    }
                }
            }
            9 => {
                for _ in 0..len {
                    self.array(depth + 1)?;
                }
            }
            _ => self.skip(len * size)?,
        }
        Ok(GgufValue::LongArray {
            len,
            is_text: kind == 8,
            size,
            offset,
        })
    }

    fn text_of(&mut self, bytes: u64) -> Result<(), String> {
        self.advance(bytes)?;
        std::io::copy(&mut self.reader.by_ref().take(bytes), &mut std::io::sink())
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// Bytes of a value, or the fewest it can have.
fn size_of(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => return None,
    })
}
