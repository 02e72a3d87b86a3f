//! Texts of MP4 and QuickTime files: ISO/IEC 14496-12 boxes, the item list of iTunes and QuickTime's
//! metadata keys. Only the `moov` box is read.

use std::io::{self, Read, Seek, SeekFrom};

use super::be32;

/// The longest `moov` that is read, in bytes: an hour of video has some hundred kilobytes.
const MAX_MOOV: u64 = 128 << 20;
/// The most boxes that are walked on one level.
const MAX_BOXES: usize = 4096;

/// Whether the first bytes are an MP4's or a QuickTime file's.
pub(crate) fn is_mp4(start: &[u8]) -> bool {
    start.get(4..8) == Some(b"ftyp")
}

/// The texts of a file, by keyword, in file order.
pub(crate) fn texts<R: Read + Seek>(file: &mut R) -> io::Result<Vec<(String, String)>> {
    Ok(match read_moov(file)? {
        Some(moov) => read_texts(&moov),
        None => Vec::new(),
    })
}

/// The content of the `moov` box.
fn read_moov<R: Read + Seek>(file: &mut R) -> io::Result<Option<Vec<u8>>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut at = 0_u64;
    for _ in 0..MAX_BOXES {
        if end.saturating_sub(at) < 8 {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let mut header_length = 8;
        let mut length = u64::from(be32(&head, 0).unwrap_or(0));
        if length == 1 && end - at >= 16 {
            let mut long = [0; 8];
            file.read_exact(&mut long)?;
            length = u64::from_be_bytes(long);
            header_length = 16;
        } else if length == 0 {
            length = end - at;
        }
        if length < header_length || length > end - at {
            break;
        }
        if &head[4..] == b"moov" {
            let content_length = length - header_length;
            if content_length > MAX_MOOV {
                break;
            }
            let mut content = vec![0; content_length as usize];
            file.read_exact(&mut content)?;
            return Ok(Some(content));
        }
        at += length;
    }
    Ok(None)
}

/// The boxes in a piece of memory: type and content. Ends at the first that is cut off.
fn boxes(content: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut at = 0_usize;
    let next = move || {
        let length = be32(content, at)? as usize;
        let kind = content.get(at + 4..at + 8)?.try_into().ok()?;
        let body = content.get(at + 8..at.checked_add(length)?)?;
        at += length;
        Some((kind, body))
    };
    std::iter::from_fn(next).take(MAX_BOXES)
}

fn read_texts(moov: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (kind, body) in boxes(moov) {
        match &kind {
            b"meta" => read_meta(body, &mut found),
            b"udta" => {
                for (kind, body) in boxes(body) {
                    match &kind {
                        b"meta" => read_meta(body, &mut found),
                        // QuickTime's own user data: length, language, text.
                        [0xA9, ..] if body.len() > 4 => {
                            push(&mut found, &name_of(kind), &body[4..]);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn read_meta(body: &[u8], found: &mut Vec<(String, String)>) {
    // A version and flags stand in front, except in QuickTime files.
    let body = match body.get(4..8) {
        Some(b"hdlr") => body,
        _ => body.get(4..).unwrap_or_default(),
    };
    let mut keys = Vec::new();
    for (kind, body) in boxes(body) {
        match &kind {
            b"keys" => keys = read_keys(body),
            b"ilst" => {
                for (kind, item) in boxes(body) {
                    read_item(kind, item, &keys, found);
                }
            }
            _ => {}
        }
    }
}

fn read_keys(body: &[u8]) -> Vec<String> {
    // Version, flags and count first; then boxes whose type is the key's namespace.
    let entries = boxes(body.get(8..).unwrap_or_default());
    entries
        .map(|(_, name)| String::from_utf8_lossy(&name[..name.len().min(256)]).into_owned())
        .collect()
}

fn read_item(kind: [u8; 4], item: &[u8], keys: &[String], found: &mut Vec<(String, String)>) {
    let index = u32::from_be_bytes(kind) as usize;
    let mut key = match index.checked_sub(1).and_then(|index| keys.get(index)) {
        Some(key) => key.clone(),
        None => name_of(kind),
    };
    for (kind, body) in boxes(item) {
        match &kind {
            b"name" if body.len() > 4 => {
                key = String::from_utf8_lossy(&body[4..body.len().min(260)]).into_owned();
            }
            // Type 1 is UTF-8; a locale follows it.
            b"data" if be32(body, 0) == Some(1) && body.len() >= 8 => push(found, &key, &body[8..]),
            _ => {}
        }
    }
}

fn push(found: &mut Vec<(String, String)>, key: &str, value: &[u8]) {
    if let Ok(value) = std::str::from_utf8(value) {
        found.push((key.to_owned(), value.to_owned()));
    }
}

/// The word for a four-letter code.
fn name_of(kind: [u8; 4]) -> String {
    match &kind {
        b"\xA9cmt" => "comment".to_owned(),
        b"\xA9nam" => "title".to_owned(),
        b"\xA9too" => "Software".to_owned(),
        b"desc" | b"\xA9des" => "Description".to_owned(),
        kind => kind.iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 8).to_be_bytes();
        [&length, kind.as_slice(), body].concat()
    }

    fn data(text: &str) -> Vec<u8> {
        a_box(
            b"data",
            &[&[0, 0, 0, 1, 0, 0, 0, 0], text.as_bytes()].concat(),
        )
    }

    #[test]
    fn a_comment_of_itunes_and_a_free_form_item_are_found() {
        let free = [
            a_box(b"mean", b"\0\0\0\0com.example"),
            a_box(b"name", b"\0\0\0\0prompt"),
            data("a cat"),
        ];
        let list = [
            a_box(b"\xA9cmt", &data("{\"a\": 1}")),
            a_box(b"----", &free.concat()),
        ];
        let hdlr = a_box(b"hdlr", &[0; 25]);
        let meta = [vec![0; 4], hdlr, a_box(b"ilst", &list.concat())].concat();
        let udta = a_box(b"udta", &a_box(b"meta", &meta));
        let file = [
            a_box(b"ftyp", b"isom\0\0\0\0"),
            a_box(b"mdat", &[9; 100]),
            a_box(b"moov", &udta),
        ]
        .concat();
        assert!(is_mp4(&file));
        let found = texts(&mut io::Cursor::new(&file)).unwrap();
        let wanted = [("comment", "{\"a\": 1}"), ("prompt", "a cat")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, wanted);
        // Cut anywhere, it is still no trouble.
        for end in 0..file.len() {
            let _ = texts(&mut io::Cursor::new(&file[..end]));
        }
    }
}
