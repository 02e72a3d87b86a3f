//! `Range` and the conditional headers (RFC 9110, sections 13 and 14): numbers only, no files.

use axum::http::{HeaderMap, header};

/// Which part of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included.
    Bytes {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// What was asked for lies outside the file.
    Outside,
}

/// What a request's headers ask of a file of `length` bytes. Several ranges at once are answered
/// with the whole file, as the standard allows; so is a range for another version of the file.
pub(crate) fn wanted_part(headers: &HeaderMap, length: u64, tag: &str) -> Part {
    let get = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = get(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    if get(header::IF_RANGE).is_some_and(|version| version != tag) {
        return Part::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else {
        return Part::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Digits beyond 64 bits are a number too: a very large one.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), end) if end.is_some() || last.is_empty() => {
            if end.is_some_and(|end| end < first) {
                Part::Whole
            } else if first >= length {
                Part::Outside
            } else {
                let last = end.unwrap_or(u64::MAX).min(length - 1);
                Part::Bytes { first, last }
            }
        }
        (None, Some(count)) if first.is_empty() => {
            if count == 0 || length == 0 {
                Part::Outside
            } else {
                let first = length.saturating_sub(count);
                Part::Bytes {
                    first,
                    last: length - 1,
                }
            }
        }
        _ => Part::Whole,
    }
}

/// Whether the client has this version already.
pub(crate) fn is_unchanged(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|version| version.trim().trim_start_matches("W/"))
        .any(|version| version == "*" || version == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, length: u64) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        wanted_part(&headers, length, "\"tag\"")
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (range, expected) in [
            ("bytes=0-0", bytes(0, 0)),
            ("bytes=0-99", bytes(0, 99)),
            ("bytes=10-", bytes(10, 99)),
            ("bytes=90-1000", bytes(90, 99)),
            ("bytes=-10", bytes(90, 99)),
            ("bytes=-1000", bytes(0, 99)),
            ("bytes=99-99999999999999999999999", bytes(99, 99)),
            ("bytes=100-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Outside);
        assert_eq!(part("bytes=-5", 0), Part::Outside);
    }

    #[test]
    fn versions_are_compared() {
        let mut headers = HeaderMap::new();
        assert!(!is_unchanged(&headers, "\"a\""));
        headers.insert(header::IF_NONE_MATCH, "\"x\", W/\"a\"".parse().unwrap());
        assert!(is_unchanged(&headers, "\"a\""));
        assert!(!is_unchanged(&headers, "\"b\""));
        headers.insert(header::RANGE, "bytes=1-2".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"old\"".parse().unwrap());
        assert_eq!(wanted_part(&headers, 9, "\"new\""), Part::Whole);
        assert_eq!(
            wanted_part(&headers, 9, "\"old\""),
            Part::Bytes { first: 1, last: 2 }
        );
    }
}
