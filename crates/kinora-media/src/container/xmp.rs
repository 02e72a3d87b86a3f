//! The XMP packet in which JPEG and WebP files carry Kinora's recipe, under a namespace of its own:
//! the standard place for such things, kept by tools that rewrite metadata, and free of EXIF's limit
//! of 64 KB (in a JPEG a longer packet is continued as "extended XMP"). Not a general XMP reader.

use sha2::{Digest, Sha256};

/// What stands in front of the packet in a JPEG's segment.
pub(crate) const PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// What stands in front of each part of an extended packet.
pub(crate) const EXTENSION_PREFIX: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// The namespace of the recipe. A name, not an address.
const NAMESPACE: &str = "urn:kinora:1";

/// A packet with a recipe.
pub(crate) fn write(recipe: &str) -> String {
    let escaped = escape(recipe);
    wrap(&format!(
        "<rdf:Description rdf:about=\"\" xmlns:kinora=\"{NAMESPACE}\"><kinora:recipe>{escaped}</kinora:recipe></rdf:Description>"
    ))
}

/// A packet that says where the long one is.
pub(crate) fn write_pointer(guid: &str) -> String {
    wrap(&format!(
        "<rdf:Description rdf:about=\"\" xmlns:xmpNote=\"http://ns.adobe.com/xmp/note/\" xmpNote:HasExtendedXMP=\"{guid}\"/>"
    ))
}

fn wrap(description: &str) -> String {
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">{description}</rdf:RDF></x:xmpmeta><?xpacket end=\"r\"?>"
    )
}

/// 32 hex digits that stand for the contents of an extended packet.
pub(crate) fn guid(packet: &[u8]) -> String {
    Sha256::digest(packet)[..16]
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// The recipe of a packet, whether it stands in an element or, rewritten by another tool, in an
/// attribute.
pub(crate) fn recipe(packet: &[u8]) -> Option<String> {
    let packet = std::str::from_utf8(packet).ok()?;
    let (_, rest) = packet.split_once("kinora:recipe")?;
    let rest = rest.trim_start();
    let text = if let Some(value) = rest.strip_prefix('=') {
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| "\"'".contains(*c))?;
        value[1..].split_once(quote)?.0
    } else {
        let (_, content) = rest.split_once('>')?;
        content.split_once("</kinora:recipe")?.0
    };
    Some(unescape(text))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // The longest entity of interest, `&#x10FFFF;`, has ten characters.
        let end = after.bytes().take(10).position(|byte| byte == b';');
        let known = end.and_then(|end| {
            let c = match &after[..end] {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                entity => {
                    let number = entity.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code)?
                }
            };
            Some((c, end + 1))
        });
        match known {
            Some((c, length)) => {
                out.push(c);
                rest = &after[length..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_survive_the_packet() {
        for text in [
            "{}",
            "{\"prompt\":\"a < b && c > d &amp; 'x' 猫 🤖\"}",
            "a & b",
            "&#",
            "&",
        ] {
            assert_eq!(recipe(write(text).as_bytes()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_recipe_moved_into_an_attribute_is_found() {
        let packet = "<rdf:Description kinora:recipe=\"{&quot;a&quot;:&#34;&#x1F916;&quot;}\"/>";
        assert_eq!(recipe(packet.as_bytes()).unwrap(), "{\"a\":\"🤖\"}");
    }
}
