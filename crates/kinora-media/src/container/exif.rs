//! The few EXIF tags that carry generation settings, read from hostile TIFF structures and written
//! in the one form that every reader of settings knows. Not a general EXIF library.

/// What stands in front of the TIFF header in a JPEG, and in some WebP files.
pub(crate) const PREFIX: &[u8] = b"Exif\0\0";

const IMAGE_DESCRIPTION: u16 = 0x010E;
const MAKE: u16 = 0x010F;
const ORIENTATION: u16 = 0x0112;
const SOFTWARE: u16 = 0x0131;
const EXIF_IFD: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;

const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// A directory of a real file has some dozens of entries.
const MAX_ENTRIES: u16 = 512;

struct Entry<'a> {
    tag: u16,
    kind: u16,
    /// The value, wherever it stands.
    data: &'a [u8],
}

struct Tiff<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Tiff<'a> {
    fn open(exif: &'a [u8]) -> Option<Self> {
        let bytes = exif.strip_prefix(PREFIX).unwrap_or(exif);
        let is_big_endian = match bytes.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        Some(Self {
            bytes,
            is_big_endian,
        })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let two = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_big_endian {
            u16::from_be_bytes(two)
        } else {
            u16::from_le_bytes(two)
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let four = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big_endian {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }

    /// The readable entries of the directory at an offset.
    fn entries(&self, offset: u32) -> Vec<Entry<'a>> {
        let Ok(start) = usize::try_from(offset) else {
            return Vec::new();
        };
        let count = self.u16(start).unwrap_or(0).min(MAX_ENTRIES);
        (0..usize::from(count))
            .map_while(|index| start.checked_add(2 + 12 * index))
            .filter_map(|at| self.entry(at))
            .collect()
    }

    fn entry(&self, at: usize) -> Option<Entry<'a>> {
        let (tag, kind) = (self.u16(at)?, self.u16(at.checked_add(2)?)?);
        let unit = match kind {
            1 | ASCII | 6 | UNDEFINED => 1,
            SHORT | 8 => 2,
            LONG | 9 => 4,
            _ => return None,
        };
        let length = usize::try_from(self.u32(at.checked_add(4)?)?)
            .ok()?
            .checked_mul(unit)?;
        let start = if length <= 4 {
            at.checked_add(8)?
        } else {
            usize::try_from(self.u32(at.checked_add(8)?)?).ok()?
        };
        let data = self.bytes.get(start..start.checked_add(length)?)?;
        Some(Entry { tag, kind, data })
    }

    /// The entries of the first directory and of the EXIF directory below it.
    fn all(&self) -> Vec<Entry<'a>> {
        let mut entries = self.entries(self.u32(4).unwrap_or(0));
        let below = entries
            .iter()
            .find(|entry| entry.tag == EXIF_IFD && entry.kind == LONG)
            .and_then(|entry| entry.data.get(..4)?.try_into().ok())
            .map(|four| {
                if self.is_big_endian {
                    u32::from_be_bytes(four)
                } else {
                    u32::from_le_bytes(four)
                }
            });
        entries.extend(below.map(|offset| self.entries(offset)).unwrap_or_default());
        entries
    }
}

/// The texts of an EXIF block: key and text. `UserComment` is found in the EXIF directory and in the
/// first one. Tags whose text reads `key:{…}` come under that key, as ComfyUI writes its graphs.
pub(crate) fn texts(exif: &[u8]) -> Vec<(String, String)> {
    let Some(tiff) = Tiff::open(exif) else {
        return Vec::new();
    };
    let mut texts = Vec::new();
    for entry in tiff.all() {
        if entry.tag == USER_COMMENT {
            texts.push(("UserComment".to_owned(), decode_user_comment(entry.data)));
            continue;
        }
        if entry.kind != ASCII {
            continue;
        }
        let text = String::from_utf8_lossy(entry.data);
        let text = text.trim_end_matches('\0');
        if let Some((key, json)) = text.split_once(':')
            && json.trim_start().starts_with(['{', '['])
            && !key.is_empty()
            && key.len() <= 64
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        {
            texts.push((key.to_owned(), json.to_owned()));
            continue;
        }
        let key = match entry.tag {
            IMAGE_DESCRIPTION => "ImageDescription",
            MAKE => "Make",
            0x0110 => "Model",
            SOFTWARE => "Software",
            0x013B => "Artist",
            _ => continue,
        };
        texts.push((key.to_owned(), text.to_owned()));
    }
    texts
}

/// The text of a `UserComment`: eight bytes that name the encoding, and bytes in that encoding or in
/// another one. UTF-16 is told apart by its byte-order mark, by what reads like settings, or by
/// which half of its units are zero.
fn decode_user_comment(data: &[u8]) -> String {
    let (charset, body) = data.split_at(data.len().min(8));
    let text = if charset.starts_with(b"UNICODE") || charset == [0; 8] && looks_like_utf16(body) {
        decode_utf16(body)
    } else if charset.starts_with(b"ASCII") || charset.starts_with(b"UTF") || charset == [0; 8] {
        String::from_utf8_lossy(body).into_owned()
    } else if looks_like_utf16(data) {
        decode_utf16(data)
    } else {
        // No header at all: the text starts right away.
        String::from_utf8_lossy(data).into_owned()
    };
    text.replace('\0', "").trim().to_owned()
}

fn looks_like_utf16(body: &[u8]) -> bool {
    body.starts_with(&[0xFE, 0xFF])
        || body.starts_with(&[0xFF, 0xFE])
        || body.len() >= 2 && std::str::from_utf8(body.strip_suffix(&[0]).unwrap_or(body)).is_err()
        || body.iter().take(1000).filter(|byte| **byte == 0).count() * 4 > body.len().min(1000)
}

fn decode_utf16(body: &[u8]) -> String {
    let decode = |bytes: &[u8], is_big_endian: bool| {
        let units = bytes.chunks_exact(2).map(|pair| {
            let pair = [pair[0], pair[1]];
            if is_big_endian {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            }
        });
        char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect::<String>()
    };
    if let Some(rest) = body.strip_prefix(&[0xFE, 0xFF]) {
        return decode(rest, true);
    }
    if let Some(rest) = body.strip_prefix(&[0xFF, 0xFE]) {
        return decode(rest, false);
    }
    // Zero bytes stand at even offsets in big-endian ASCII, at odd ones in little-endian. Text
    // without ASCII says nothing that way, so what reads like settings goes first.
    let reads_like_settings =
        |text: &str| text.contains("Steps:") || text.trim_start().starts_with('{');
    let (big, little) = (decode(body, true), decode(body, false));
    match (reads_like_settings(&big), reads_like_settings(&little)) {
        (true, false) => return big,
        (false, true) => return little,
        _ => {}
    }
    let zeros = |parity: usize| {
        let bytes = body.iter().take(1000).skip(parity).step_by(2);
        bytes.filter(|byte| **byte == 0).count()
    };
    if zeros(1) > zeros(0) { little } else { big }
}

/// The orientation (2 to 8) of an EXIF block; None when there is none, or it is the upright one.
pub(crate) fn orientation(exif: &[u8]) -> Option<u16> {
    let tiff = Tiff::open(exif)?;
    let entries = tiff.entries(tiff.u32(4)?);
    let entry = entries
        .iter()
        .find(|entry| entry.tag == ORIENTATION && entry.kind == SHORT)?;
    let two = entry.data.get(..2)?.try_into().ok()?;
    let value = if tiff.is_big_endian {
        u16::from_be_bytes(two)
    } else {
        u16::from_le_bytes(two)
    };
    (2..=8).contains(&value).then_some(value)
}

/// An EXIF block (TIFF header first, no prefix) that tells nothing but the orientation.
pub(crate) fn write_orientation(orientation: u16) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(b"MM\0*\0\0\0\x08");
    out.extend(1u16.to_be_bytes());
    push_entry(
        &mut out,
        ORIENTATION,
        SHORT,
        1,
        u32::from(orientation) << 16,
    );
    out.extend(0u32.to_be_bytes());
    out
}

/// An EXIF block (TIFF header first, no prefix) with the program's name and a `UserComment`:
/// `UNICODE\0` and UTF-16 big-endian without a mark, the form that readers of infotexts expect. The
/// TIFF structure is big-endian too, so that a strict reader comes to the same text.
pub(crate) fn write(software: &str, comment: &str) -> Vec<u8> {
    let mut software = software.as_bytes().to_vec();
    software.push(0);
    let mut user_comment = b"UNICODE\0".to_vec();
    user_comment.extend(comment.encode_utf16().flat_map(u16::to_be_bytes));
    // Header 8; directory: 2 + 2 entries of 12 + 4; EXIF directory: 2 + 1 entry of 12 + 4.
    let exif_directory = 8 + 2 + 24 + 4;
    let software_at = exif_directory + 2 + 12 + 4;
    let comment_at = software_at + software.len() + software.len() % 2;

    let mut out = Vec::with_capacity(comment_at + user_comment.len());
    out.extend(b"MM\0*\0\0\0\x08");
    out.extend(2u16.to_be_bytes());
    push_entry(
        &mut out,
        SOFTWARE,
        ASCII,
        software.len() as u32,
        software_at as u32,
    );
    push_entry(&mut out, EXIF_IFD, LONG, 1, exif_directory as u32);
    out.extend(0u32.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    push_entry(
        &mut out,
        USER_COMMENT,
        UNDEFINED,
        user_comment.len() as u32,
        comment_at as u32,
    );
    out.extend(0u32.to_be_bytes());
    out.extend(&software);
    out.resize(comment_at, 0);
    out.extend(user_comment);
    out
}

fn push_entry(out: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32) {
    out.extend(tag.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(count.to_be_bytes());
    out.extend(value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_comment(charset: &[u8; 8], body: &[u8]) -> String {
        decode_user_comment(&[charset.as_slice(), body].concat())
    }

    #[test]
    fn user_comments_are_read_in_every_encoding_seen_in_files() {
        let text = "猫とロボット 🤖, 夜\nSteps: 20, Sampler: Euler, Seed: 5";
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = |mark: [u8; 2], body: &[u8]| [mark.as_slice(), body].concat();
        assert_eq!(user_comment(b"UNICODE\0", &big), text);
        assert_eq!(user_comment(b"UNICODE\0", &little), text);
        assert_eq!(
            user_comment(b"UNICODE\0", &marked([0xFE, 0xFF], &big)),
            text
        );
        assert_eq!(
            user_comment(b"UNICODE\0", &marked([0xFF, 0xFE], &little)),
            text
        );
        assert_eq!(user_comment(&[0; 8], &big), text);
        assert_eq!(user_comment(&[0; 8], text.as_bytes()), text);
        assert_eq!(user_comment(b"UTF8\0\0\0\0", text.as_bytes()), text);
        assert_eq!(user_comment(b"ASCII\0\0\0", b"Steps: 1\0"), "Steps: 1");
        assert_eq!(decode_user_comment(b"a cat, Steps: 1"), "a cat, Steps: 1");
        assert_eq!(decode_user_comment(b""), "");
    }

    #[test]
    fn a_written_block_is_read_back_and_shows_no_orientation() {
        let block = write("Kinora 1.2", "東京 in the rain 🌧\nSteps: 4");
        assert_eq!(
            texts(&block),
            [
                ("Software".to_owned(), "Kinora 1.2".to_owned()),
                (
                    "UserComment".to_owned(),
                    "東京 in the rain 🌧\nSteps: 4".to_owned()
                ),
            ]
        );
        assert_eq!(orientation(&block), None);
        assert_eq!(orientation(&write_orientation(6)), Some(6));
    }

    #[test]
    fn a_directory_that_points_at_itself_ends() {
        let mut block = b"II*\0\x08\0\0\0".to_vec();
        block.extend(1u16.to_le_bytes());
        block.extend(EXIF_IFD.to_le_bytes());
        block.extend(LONG.to_le_bytes());
        block.extend(1u32.to_le_bytes());
        block.extend(8u32.to_le_bytes());
        assert!(texts(&block).is_empty());
    }
}
