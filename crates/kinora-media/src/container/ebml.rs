//! Texts of WebM and Matroska files: the tags of RFC 9559, found without reading a cluster.

use std::io::{self, Read, Seek, SeekFrom};

/// The longest list of tags that is read, in bytes.
const MAX_TAGS: u64 = 128 << 20;
/// The most elements that are walked.
const MAX_ELEMENTS: usize = 1 << 20;

const SEGMENT: u32 = 0x1853_8067;
const TAGS: u32 = 0x1254_C367;
const TAG: u32 = 0x7373;
const SIMPLE_TAG: u32 = 0x67C8;
const TAG_NAME: u32 = 0x45A3;
const TAG_STRING: u32 = 0x4487;

/// Whether the first bytes are those of an EBML file.
pub(crate) fn is_ebml(start: &[u8]) -> bool {
    start.starts_with(&[0x1A, 0x45, 0xDF, 0xA3])
}

/// The texts of a file, by keyword in lower case, in file order.
pub(crate) fn texts<R: Read + Seek>(file: &mut R) -> io::Result<Vec<(String, String)>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut at = 0_u64;
    let mut found = Vec::new();
    for _ in 0..MAX_ELEMENTS {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 12];
        let count = read_some(file, &mut head)?;
        let Some((id, length, header_length)) = element(&head[..count]) else {
            break;
        };
        at += header_length as u64;
        if id == SEGMENT {
            // Its children follow; its length may be unknown.
            continue;
        }
        let Some(length) = length.filter(|length| *length <= end.saturating_sub(at)) else {
            break;
        };
        if id == TAGS && length <= MAX_TAGS {
            let mut content = vec![0; length as usize];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut content)?;
            read_tags(&content, &mut found);
        }
        at += length;
    }
    Ok(found)
}

fn read_some<R: Read>(file: &mut R, into: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < into.len() {
        match file.read(&mut into[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Id, length (None: unknown) and the length of both of these, in bytes.
fn element(head: &[u8]) -> Option<(u32, Option<u64>, usize)> {
    let id_length = head.first()?.leading_zeros() as usize + 1;
    if id_length > 4 {
        return None;
    }
    let fold = |bytes: &[u8]| bytes.iter().fold(0, |v, byte| v << 8 | u64::from(*byte));
    let id = fold(head.get(..id_length)?) as u32;
    let length_length = head.get(id_length)?.leading_zeros() as usize + 1;
    if length_length > 8 {
        return None;
    }
    let digits = head.get(id_length..id_length + length_length)?;
    let mask = (1_u64 << (7 * length_length)) - 1;
    let length = fold(digits) & mask;
    let length = (length != mask).then_some(length);
    Some((id, length, id_length + length_length))
}

/// The elements in a piece of memory. Ends at the first that is cut off.
fn elements(content: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut at = 0_usize;
    let next = move || {
        let rest = content.get(at..)?;
        let (id, length, header_length) = element(rest)?;
        let length = usize::try_from(length?).ok()?;
        let body = rest.get(header_length..header_length.checked_add(length)?)?;
        at += header_length + length;
        Some((id, body))
    };
    std::iter::from_fn(next)
}

fn read_tags(tags: &[u8], found: &mut Vec<(String, String)>) {
    let simple = elements(tags)
        .filter(|(id, _)| *id == TAG)
        .flat_map(|(_, tag)| elements(tag))
        .filter(|(id, _)| *id == SIMPLE_TAG);
    for (_, tag) in simple {
        let text = |wanted: u32| {
            let (_, body) = elements(tag).find(|(id, _)| *id == wanted)?;
            // Padded with zeros where a shorter text took a longer one's place.
            let text = std::str::from_utf8(body).ok()?;
            Some(text.trim_end_matches('\0').to_owned())
        };
        if let (Some(name), Some(value)) = (text(TAG_NAME), text(TAG_STRING)) {
            found.push((name.to_lowercase(), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_element(id: u32, body: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let id = &id[id.iter().position(|byte| *byte != 0).unwrap()..];
        let mut length = (body.len() as u32).to_be_bytes();
        length[0] |= 0x10;
        [id, &length, body].concat()
    }

    #[test]
    fn tags_behind_clusters_are_found() {
        let simple = [
            an_element(TAG_NAME, b"COMMENT"),
            an_element(TAG_STRING, "a cät\0\0".as_bytes()),
        ];
        let tag = an_element(TAG, &an_element(SIMPLE_TAG, &simple.concat()));
        let segment = [
            an_element(0x1F43_B675, &[0xFF; 300]),
            an_element(TAGS, &tag),
        ]
        .concat();
        // A segment of unknown length, as live writers leave it.
        let mut file = an_element(0x1A45_DFA3, &[0; 20]);
        file.extend([
            0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255,
        ]);
        file.extend(segment);
        assert!(is_ebml(&file));
        let found = texts(&mut io::Cursor::new(&file)).unwrap();
        assert_eq!(found, [("comment".to_owned(), "a cät".to_owned())]);
        for end in 0..file.len() {
            let _ = texts(&mut io::Cursor::new(&file[..end]));
        }
    }
}
