//! Names under which the server may be addressed, and origins that it trusts, as people write them.

use std::net::IpAddr;

use super::decision::Decision;

/// Host names and addresses, without ports; what is none of these is refused.
pub(super) fn hosts(decision: &mut Decision<'_>, words: Vec<String>) -> Vec<String> {
    let mut hosts = Vec::with_capacity(words.len());
    for word in words {
        match read_host(&word) {
            Some(host) => hosts.push(host),
            None => decision.refuse(
                "allowed_hosts",
                format!("\"{word}\" is no name of a host"),
                "Write names alone, such as studio.example, without https:// and without a port.",
            ),
        }
    }
    hosts
}

/// Origins as browsers send them; what is none is refused.
pub(super) fn origins(decision: &mut Decision<'_>, words: Vec<String>) -> Vec<String> {
    let mut origins = Vec::with_capacity(words.len());
    for word in words {
        match read_origin(&word) {
            Some(origin) => origins.push(origin),
            None => decision.refuse(
                "trusted_origins",
                format!("\"{word}\" is no origin"),
                "Write scheme and host as browsers do, such as https://studio.example, without a path.",
            ),
        }
    }
    origins
}

/// A name or an address in the form in which it is compared. A wildcard is none: it would switch the
/// protection off.
fn read_host(word: &str) -> Option<String> {
    let bare = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(word).parse::<IpAddr>() {
        return Some(match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
    }
    let name = word.trim_end_matches('.').to_lowercase();
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_plain)
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

fn read_origin(word: &str) -> Option<String> {
    let word = word.strip_suffix('/').unwrap_or(word).to_lowercase();
    let (scheme, authority) = word.split_once("://")?;
    let is_scheme = !scheme.is_empty()
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_scheme && is_port && read_host(host).is_some()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        assert_eq!(read_host("Studio.Example."), Some("studio.example".into()));
        assert_eq!(read_host("10.0.0.7"), Some("10.0.0.7".into()));
        assert_eq!(read_host("fe80::1"), Some("[fe80::1]".into()));
        assert_eq!(read_host("[FE80::1]"), Some("[fe80::1]".into()));
        for bad in [
            "",
            "*",
            "https://a",
            "a:80",
            "a/b",
            "a b",
            "a..b",
            "ä.example",
        ] {
            assert_eq!(read_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn origins_are_scheme_and_host() {
        for (word, origin) in [
            ("https://Studio.example", "https://studio.example"),
            ("http://localhost:5173/", "http://localhost:5173"),
            ("tauri://localhost", "tauri://localhost"),
            ("http://[::1]:8030", "http://[::1]:8030"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(read_origin(word).as_deref(), Some(origin), "{word}");
        }
        for bad in [
            "null",
            "*",
            "studio.example",
            "https://",
            "https://a/b",
            "https://*.a",
            "https://a:port",
            "://a",
            "1http://a",
        ] {
            assert_eq!(read_origin(bad), None, "{bad}");
        }
    }
}
