//! Bytes of a list file as text, in the encodings in which spreadsheets save.

use kinora_core::{Code, Problem};

/// The text of a list: UTF-8, or the UTF-16 with a mark that spreadsheets save as "Unicode text".
///
/// # Errors
/// `unsupported_file` for anything else.
pub fn decode_text(file: &[u8]) -> Result<String, Problem> {
    let wide = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| read(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty())
    };
    let text = match file {
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        bytes => std::str::from_utf8(bytes).ok().map(str::to_owned),
    };
    text.ok_or_else(|| {
        Problem::new(
            Code::UnsupportedFile,
            "the list is not a text in UTF-8",
            "Save it as UTF-8 (CSV UTF-8 in spreadsheets).",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_the_encodings_of_spreadsheets() {
        let text = "prompt\nein Fuchs im Schnee, 猫";
        let wide = |write: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}"
                .encode_utf16()
                .chain(text.encode_utf16())
                .flat_map(write)
                .collect()
        };
        let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
        for file in [
            text.as_bytes().to_vec(),
            marked,
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
        ] {
            assert_eq!(decode_text(&file).unwrap(), text);
        }
        for damaged in [&b"caf\xe9"[..], b"\xFF\xFEa\0b", b"\xFF\xFE\x00\xD8"] {
            assert!(decode_text(damaged).is_err(), "{damaged:?}");
        }
    }
}
