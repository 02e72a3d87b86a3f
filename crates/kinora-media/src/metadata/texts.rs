//! Which texts a file carries: PNG text chunks, EXIF, XMP, comments and the tags of clips,
//! decompressed within limits. What they mean is decided elsewhere.

use std::{
    fs::File,
    io::{self, Cursor, Read},
};

use flate2::read::ZlibDecoder;
use kinora_core::ImageFormat;

use super::RECIPE_KEYWORD;
use crate::{
    container::{detect_format, exif, jpeg, png, webp, xmp},
    error::{Error, Result},
    video::{self, ClipTexts},
};

/// The most text that is taken from one file, in bytes. Graphs beyond 10 MB exist; what a small
/// file could inflate to has no limit of its own.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// The most texts that are taken from one file.
const MAX_TEXTS: usize = 1024;

/// One text of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Keyword, as the file spells it.
    pub key: String,
    /// Content.
    pub value: String,
    /// Which kind of block it stood in, such as `PNG tEXt` or `EXIF`.
    pub place: &'static str,
}

impl Text {
    pub(crate) fn new(key: &str, value: impl Into<String>, place: &'static str) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
            place,
        }
    }
}

/// The texts of a picture (PNG, JPEG, WebP) or a clip (MP4, WebM, GIF, animated WebP, an archive of
/// frames) in file order, and notes on those that could not be taken.
pub fn read_texts(bytes: &[u8]) -> Result<(Vec<Text>, Vec<String>)> {
    let mut reader = Collector::new();
    if let Ok(Some(found)) = video::texts(&mut Cursor::new(bytes)) {
        reader.clip(found);
        return Ok((reader.texts, reader.notes));
    }
    match detect_format(bytes).ok_or(Error::UnsupportedFile)? {
        ImageFormat::Png => reader.png(bytes),
        ImageFormat::Jpeg => reader.jpeg(bytes),
        ImageFormat::Webp => reader.webp(bytes),
    }
    Ok((reader.texts, reader.notes))
}

/// The texts of a clip's file, of which no more is read than they take. None: it is no clip, or one
/// whose texts stand where a still picture's do.
pub(super) fn read_clip_texts(file: &mut File) -> io::Result<Option<(Vec<Text>, Vec<String>)>> {
    let Some(found) = video::texts(file)? else {
        return Ok(None);
    };
    let mut reader = Collector::new();
    reader.clip(found);
    Ok(Some((reader.texts, reader.notes)))
}

struct Collector {
    texts: Vec<Text>,
    notes: Vec<String>,
    /// Bytes of text that may still be taken.
    room: usize,
    /// Bytes that may still be inflated, wanted or not: what is thrown away costs time too.
    work: usize,
}

impl Collector {
    fn new() -> Self {
        Self {
            texts: Vec::new(),
            notes: Vec::new(),
            room: MAX_TEXT_BYTES,
            work: 2 * MAX_TEXT_BYTES,
        }
    }

    fn clip(&mut self, found: ClipTexts) {
        for (key, value) in found.texts {
            self.push(key, value, found.place);
        }
    }

    fn push(&mut self, key: impl Into<String>, value: String, place: &'static str) {
        let key = key.into();
        if value.len() > self.room || self.texts.len() == MAX_TEXTS {
            self.note(format!(
                "The text “{key}” ({place}) is too long and was left out."
            ));
            return;
        }
        self.room -= value.len();
        self.texts.push(Text { key, value, place });
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < 16 {
            self.notes.push(note);
        }
    }

    fn png(&mut self, bytes: &[u8]) {
        let mut is_complete = false;
        for chunk in png::chunks(bytes) {
            match &chunk.kind {
                b"tEXt" => self.plain(chunk.data, "PNG tEXt"),
                b"zTXt" => self.compressed(chunk.data),
                b"iTXt" => self.international(chunk.data),
                // ComfyUI's animated PNG puts its graph here.
                b"comf" => self.plain(chunk.data, "PNG comf"),
                b"eXIf" => self.exif(chunk.data),
                b"IEND" => {
                    is_complete = true;
                    break;
                }
                _ => {}
            }
        }
        if !is_complete {
            self.note("The PNG is cut off; texts behind the cut are lost.".to_owned());
        }
    }

    /// Keyword, NUL, Latin-1 text. Writers that put UTF-8 here against the rules are understood.
    fn plain(&mut self, data: &[u8], place: &'static str) {
        if let Some((key, text)) = split_at_nul(data) {
            self.push(latin1(key), decode_latin1_or_utf8(text), place);
        }
    }

    /// Keyword, NUL, method, zlib stream of Latin-1 text.
    fn compressed(&mut self, data: &[u8]) {
        if let Some((key, [0, stream @ ..])) = split_at_nul(data) {
            let key = latin1(key);
            if let Some(text) = self.inflate(&key, stream, "PNG zTXt") {
                self.push(key, decode_latin1_or_utf8(&text), "PNG zTXt");
            }
        }
    }

    /// Keyword, NUL, flag, method, language, NUL, translated keyword, NUL, UTF-8 text.
    fn international(&mut self, data: &[u8]) {
        let parts = (|| {
            let (key, rest) = split_at_nul(data)?;
            let [is_compressed, _method, rest @ ..] = rest else {
                return None;
            };
            let (_language, rest) = split_at_nul(rest)?;
            let (_translated, text) = split_at_nul(rest)?;
            Some((latin1(key), *is_compressed, text))
        })();
        let Some((key, is_compressed, text)) = parts else {
            return;
        };
        let text = match is_compressed {
            0 => text.to_vec(),
            _ => match self.inflate(&key, text, "PNG iTXt") {
                Some(text) => text,
                None => return,
            },
        };
        if key == "XML:com.adobe.xmp" {
            self.xmp(&text);
        }
        self.push(key, String::from_utf8_lossy(&text).into_owned(), "PNG iTXt");
    }

    /// Inflates a stream within the room that is left.
    fn inflate(&mut self, key: &str, stream: &[u8], place: &'static str) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let limit = self.room.saturating_add(1).min(self.work) as u64;
        let outcome = ZlibDecoder::new(stream).take(limit).read_to_end(&mut text);
        self.work -= text.len();
        if text.len() as u64 == limit {
            self.note(format!(
                "The text “{key}” ({place}) unpacks to more than Kinora reads and was left out."
            ));
            return None;
        }
        if outcome.is_err() {
            self.note(format!("The text “{key}” ({place}) is damaged."));
            if text.is_empty() {
                return None;
            }
        }
        Some(text)
    }

    fn jpeg(&mut self, bytes: &[u8]) {
        for segment in jpeg::segments(bytes) {
            match segment.marker {
                jpeg::APP1 if segment.data.starts_with(exif::PREFIX) => self.exif(segment.data),
                jpeg::COM => {
                    let text = decode_latin1_or_utf8(segment.data);
                    self.push(
                        "comment",
                        text.trim_end_matches('\0').to_owned(),
                        "JPEG comment",
                    );
                }
                _ => {}
            }
        }
        for packet in jpeg::xmp_packets(bytes) {
            self.xmp(&packet);
        }
    }

    fn webp(&mut self, bytes: &[u8]) {
        for chunk in webp::chunks(bytes) {
            match &chunk.kind {
                b"EXIF" => self.exif(chunk.data),
                b"XMP " => self.xmp(chunk.data),
                _ => {}
            }
        }
    }

    fn exif(&mut self, block: &[u8]) {
        for (key, text) in exif::texts(block) {
            self.push(key, text, "EXIF");
        }
    }

    fn xmp(&mut self, packet: &[u8]) {
        if let Some(recipe) = xmp::recipe(packet) {
            self.push(RECIPE_KEYWORD, recipe, "XMP");
        }
    }
}

fn split_at_nul(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

/// Keywords are at most 79 Latin-1 characters; longer ones are cut.
fn latin1(key: &[u8]) -> String {
    key.iter().take(79).map(|byte| char::from(*byte)).collect()
}

fn decode_latin1_or_utf8(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => text.iter().map(|byte| char::from(*byte)).collect(),
    }
}
