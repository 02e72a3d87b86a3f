//! Clips as a ZIP archive of PNG pictures, stored and not compressed twice, with the recipe, the
//! settings and the clip's rate beside them.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>.
//!
//! | entry | content |
//! |---|---|
//! | `frame_000001.png` … | the pictures, without loss |
//! | `recipe.json` | Kinora's recipe |
//! | `parameters.txt` | the settings as other programs write them |
//! | `clip.json` | pictures, rate, duration |

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use kinora_core::ImageFormat;

use super::ClipSpec;
use crate::{
    encode::encode_pixels,
    error::{Error, Result},
};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// 1 January 1980, the first day that the format knows: the same pictures give the same archive.
const DATE: u16 = 0x21;
/// Version of the format that a reader must know: 4.5 has 64-bit places.
const VERSION: u16 = 45;
/// Names are UTF-8.
const FLAGS: u16 = 0x0800;

pub(super) const CLIP_ENTRY: &str = "clip.json";
pub(super) const RECIPE_ENTRY: &str = "recipe.json";
pub(super) const SETTINGS_ENTRY: &str = "parameters.txt";

/// The entry of a picture, counted from zero.
pub(super) fn frame_entry(index: u64) -> String {
    format!("frame_{:06}.png", index + 1)
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Bytes, stored as they are.
    pub length: u64,
    checksum: u32,
    /// Where its local header begins.
    at: u64,
}

/// An archive being written.
pub(super) struct Archive {
    spec: ClipSpec,
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    entries: Vec<Entry>,
    frames: u64,
}

impl Archive {
    pub(super) fn create(path: &Path, spec: &ClipSpec) -> Result<Self> {
        let file = File::create(path).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            spec: spec.clone(),
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            length: 0,
            entries: Vec::new(),
            frames: 0,
        })
    }

    pub(super) fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let png = encode_pixels(rgb, self.spec.width, self.spec.height, ImageFormat::Png)?;
        self.add(frame_entry(self.frames), &png)?;
        self.frames += 1;
        Ok(())
    }

    pub(super) fn add(&mut self, name: String, content: &[u8]) -> Result<()> {
        let written = self.write_entry(name, content);
        written.map_err(|source| self.wrong(source))
    }

    fn write_entry(&mut self, name: String, content: &[u8]) -> io::Result<()> {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let entry = Entry {
            name,
            length: content.len() as u64,
            checksum: crc.sum(),
            at: self.length,
        };
        let mut head = LOCAL.to_le_bytes().to_vec();
        head.extend(entry.common());
        head.extend((entry.name.len() as u16).to_le_bytes());
        head.extend([0; 2]);
        head.extend(entry.name.as_bytes());
        self.write(&head)?;
        self.write(content)?;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let written = self.write_directory();
        written.map_err(|source| self.wrong(source))
    }

    fn write_directory(&mut self) -> io::Result<()> {
        let start = self.length;
        let heads: Vec<u8> = self.entries.iter().flat_map(Entry::central).collect();
        self.write(&heads)?;
        let (end, count) = (self.length, self.entries.len() as u64);
        let mut tail = Vec::new();
        tail.extend(END_64.to_le_bytes());
        tail.extend(44_u64.to_le_bytes());
        tail.extend(VERSION.to_le_bytes());
        tail.extend(VERSION.to_le_bytes());
        tail.extend([0; 8]);
        tail.extend(
            [count, count, end - start, start]
                .map(u64::to_le_bytes)
                .concat(),
        );
        tail.extend(LOCATOR_64.to_le_bytes());
        tail.extend([0; 4]);
        tail.extend(end.to_le_bytes());
        tail.extend(1_u32.to_le_bytes());
        tail.extend(END.to_le_bytes());
        tail.extend([0; 4]);
        let short = u16::try_from(count).unwrap_or(u16::MAX);
        tail.extend([short, short].map(u16::to_le_bytes).concat());
        let places = [end - start, start].map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        tail.extend(places.map(u32::to_le_bytes).concat());
        tail.extend([0; 2]);
        self.write(&tail)?;
        self.file.flush()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn wrong(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Entry {
    /// What the local and the central header share.
    fn common(&self) -> Vec<u8> {
        // One PNG or text is far below 4 GiB.
        let length = self.length as u32;
        let mut out = [VERSION, FLAGS, 0, 0, DATE].map(u16::to_le_bytes).concat();
        out.extend(
            [self.checksum, length, length]
                .map(u32::to_le_bytes)
                .concat(),
        );
        out
    }

    fn central(&self) -> Vec<u8> {
        let mut out = CENTRAL.to_le_bytes().to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(self.common());
        let extra = match u32::try_from(self.at) {
            Ok(_) => Vec::new(),
            Err(_) => {
                let mut extra = [1_u16, 8].map(u16::to_le_bytes).concat();
                extra.extend(self.at.to_le_bytes());
                extra
            }
        };
        let lengths = [self.name.len() as u16, extra.len() as u16, 0, 0, 0];
        out.extend(lengths.map(u16::to_le_bytes).concat());
        out.extend([0; 4]);
        let at = u32::try_from(self.at).unwrap_or(u32::MAX);
        out.extend(at.to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(extra);
        out
    }
}

/// The most entries of an archive that Kinora opens.
const MAX_ENTRIES: u64 = 200_000;
/// The longest directory, in bytes.
const MAX_DIRECTORY: u64 = 64 << 20;

/// The stored entries of an archive. None: it is none, or damaged.
pub(super) fn entries<R: Read + Seek>(file: &mut R) -> io::Result<Option<Vec<Entry>>> {
    let length = file.seek(SeekFrom::End(0))?;
    // The end record, and Kinora's own 64-bit one before it; a comment is not expected.
    let tail_length = length.min(22 + 20 + 56);
    file.seek(SeekFrom::Start(length - tail_length))?;
    let mut tail = vec![0; tail_length as usize];
    file.read_exact(&mut tail)?;
    let Some(end) = tail.len().checked_sub(22) else {
        return Ok(None);
    };
    if le(&tail, end, 4) != Some(u64::from(END)) {
        return Ok(None);
    }
    let short = |at| le(&tail, end + at, if at == 10 { 2 } else { 4 });
    let (mut count, mut size, mut start) = (short(10), short(12), short(16));
    if tail.len() == 98 && le(&tail, 0, 4) == Some(u64::from(END_64)) {
        (count, size, start) = (le(&tail, 32, 8), le(&tail, 40, 8), le(&tail, 48, 8));
    }
    let (Some(count), Some(size), Some(start)) = (count, size, start) else {
        return Ok(None);
    };
    let fits = start.checked_add(size).is_some_and(|end| end <= length);
    if count > MAX_ENTRIES || size > MAX_DIRECTORY || !fits {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut directory = vec![0; size as usize];
    file.read_exact(&mut directory)?;
    Ok(read_directory(&directory, count))
}

fn read_directory(directory: &[u8], count: u64) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut at = 0_usize;
    for _ in 0..count {
        (le(directory, at, 4)? == u64::from(CENTRAL)).then_some(())?;
        let field = |offset: usize, bytes: usize| le(directory, at.checked_add(offset)?, bytes);
        let [name, extra, comment] = [field(28, 2)?, field(30, 2)?, field(32, 2)?];
        let name_at = at + 46;
        let extra_at = name_at + name as usize;
        let text = directory.get(name_at..extra_at)?;
        let mut place = field(42, 4)?;
        if place == u64::from(u32::MAX) && le(directory, extra_at, 2) == Some(1) {
            place = le(directory, extra_at + 4, 8)?;
        }
        let is_stored = field(10, 2)? == 0 && field(20, 4)? == field(24, 4)?;
        if is_stored && let Ok(text) = std::str::from_utf8(text) {
            entries.push(Entry {
                name: text.to_owned(),
                length: field(24, 4)?,
                checksum: field(16, 4)? as u32,
                at: place,
            });
        }
        at = extra_at + extra as usize + comment as usize;
    }
    Some(entries)
}

/// The bytes of an entry, at most `limit`. None: it is longer, or damaged.
pub(super) fn read_entry<R: Read + Seek>(
    file: &mut R,
    entry: &Entry,
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    if entry.length > limit {
        return Ok(None);
    }
    let mut head = [0; 30];
    file.seek(SeekFrom::Start(entry.at))?;
    if file.read_exact(&mut head).is_err() || le(&head, 0, 4) != Some(u64::from(LOCAL)) {
        return Ok(None);
    }
    let skip = le(&head, 26, 2).unwrap_or(0) + le(&head, 28, 2).unwrap_or(0);
    file.seek(SeekFrom::Current(skip as i64))?;
    let mut content = Vec::new();
    file.take(entry.length).read_to_end(&mut content)?;
    let mut crc = flate2::Crc::new();
    crc.update(&content);
    let is_whole = content.len() as u64 == entry.length && crc.sum() == entry.checksum;
    Ok(is_whole.then_some(content))
}

/// A little-endian number of up to eight bytes.
fn le(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(count)?)?;
    let fold = |value: u64, digit: &u8| value << 8 | u64::from(*digit);
    Some(digits.iter().rev().fold(0, fold))
}
