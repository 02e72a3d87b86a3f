//! Prompts as the video pipelines of the reference library clean them before they are tokenized:
//! what web pages and word processors do to text is undone, then white space is collapsed.
//!
//! The first half follows the ftfy library's `fix_text` with its default settings, except for one
//! thing: text that was decoded with the wrong table ("schÃ¶n") is left as it is.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// No text needs as many rounds; entities of entities end sooner.
const MAX_ROUNDS: usize = 16;

/// The prompt, cleaned.
pub fn clean_prompt(prompt: &str) -> String {
    let mut fixed = String::with_capacity(prompt.len());
    // A line with a tag in it is taken for HTML source, and so is everything behind it.
    let mut may_unescape = true;
    for line in prompt.split_inclusive('\n') {
        may_unescape &= !line.contains('<');
        fixed.push_str(&fix_line(line, may_unescape));
    }
    let once = htmlize::unescape(fixed);
    let twice = htmlize::unescape(once.as_ref());
    let words: Vec<&str> = twice
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// What counts as white space: Unicode's, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Repeats every repair until nothing changes.
fn fix_line(line: &str, may_unescape: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..MAX_ROUNDS {
        let unescaped = if may_unescape {
            unescape_closed(&text)
        } else {
            Cow::Borrowed(text.as_str())
        };
        let plain: String = unescaped.chars().map(decode_control).collect();
        let mut simple = String::with_capacity(plain.len());
        for character in plain.chars() {
            match split_ligature(character) {
                Some(letters) => simple.push_str(letters),
                None => simple.extend(narrow(character)),
            }
        }
        let straight: String = simple.chars().map(straighten).collect();
        let lines = straight
            .replace("\r\n", "\n")
            .replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        let kept: String = remove_terminal_escapes(&lines)
            .chars()
            .filter(|character| !is_stray_control(*character))
            .collect();
        let fixed: String = kept.nfc().collect();
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// Entities that end in a semicolon, decoded; others may be meant as they stand ("this&not that").
fn unescape_closed(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = rest[1..].strip_prefix('#').unwrap_or(&rest[1..]);
        let len = name
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        let end = rest.len() - name.len() + len;
        if (1..=24).contains(&len) && rest[end..].starts_with(';') {
            out.push_str(&decode_entity(&rest[..=end]));
            rest = &rest[end + 1..];
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// One entity, also one whose name was put in capitals with everything else.
fn decode_entity(entity: &str) -> String {
    let decoded = htmlize::unescape(entity);
    // Left as it was, or only a shorter entity in front of it was decoded.
    if decoded != entity && !decoded.ends_with(';') {
        return decoded.into_owned();
    }
    let lower = entity.to_ascii_lowercase();
    if decoded == entity && entity == entity.to_ascii_uppercase() {
        let decoded = htmlize::unescape(lower.as_str());
        if decoded != lower && !decoded.ends_with(';') {
            return decoded.to_uppercase();
        }
    }
    match decoded.as_ref() {
        // &semi; itself.
        ";" => decoded.into_owned(),
        _ => entity.to_owned(),
    }
}

/// A control character of the second block is what Windows-1252 has at its place.
fn decode_control(character: char) -> char {
    const WINDOWS_1252: [u16; 32] = [
        0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
        0x2039, 0x0152, 0x8D, 0x017D, 0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013,
        0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D, 0x017E, 0x0178,
    ];
    (character as u32)
        .checked_sub(0x80)
        .and_then(|place| WINDOWS_1252.get(place as usize))
        .and_then(|code| char::from_u32(u32::from(*code)))
        .unwrap_or(character)
}

/// The letters of a ligature of Latin letters.
fn split_ligature(character: char) -> Option<&'static str> {
    Some(match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        '\u{fb05}' => "ſt",
        '\u{fb06}' => "st",
        _ => return None,
    })
}

/// Half-width and full-width forms in their usual width.
fn narrow(character: char) -> impl Iterator<Item = char> {
    let character = if character == '\u{3000}' {
        ' '
    } else {
        character
    };
    let is_form = ('\u{ff01}'..='\u{ffef}').contains(&character);
    let forms: Vec<char> = if is_form {
        character.nfkc().collect()
    } else {
        vec![character]
    };
    forms.into_iter()
}

/// Curly quotes as straight ones.
fn straighten(character: char) -> char {
    match character {
        '\u{02bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        other => other,
    }
}

/// Without sequences that colour a terminal's text.
fn remove_terminal_escapes(text: &str) -> Cow<'_, str> {
    const START: &str = "\u{1b}[";
    if !text.contains(START) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(START) {
        let body = &rest[start + START.len()..];
        let numbers = body
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b';')
            .count();
        if body
            .as_bytes()
            .get(numbers)
            .is_some_and(u8::is_ascii_alphabetic)
        {
            out.push_str(&rest[..start]);
            rest = &body[numbers + 1..];
        } else {
            out.push_str(&rest[..start + START.len()]);
            rest = body;
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Control characters that nobody means to write.
fn is_stray_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{8}'
            | '\u{b}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs from the reference's own function (ftfy 6.3.1, diffusers 0.42.1).
    #[test]
    fn prompts_come_out_as_the_references_do() {
        for (prompt, cleaned) in [
            ("  a cat\t\n  sits ", "a cat sits"),
            ("“it’s” a ﬁne day…", "\"it's\" a fine day…"),
            ("Ｌｏｕｄ　ｎｏｉｓｅ，ｽｺｱ", "Loud noise,スコア"),
            ("fish &amp;amp; chips &amp;lt;b&amp;gt;", "fish & chips <b>"),
            ("<b>fish &amp;amp;amp; chips</b>", "<b>fish &amp; chips</b>"),
            (
                "P&EACUTE;REZ &NTILDE; &nTILDE; &semi;",
                "PÉREZ Ñ &nTILDE; ;",
            ),
            (
                "this&not that &notit; &#39;x&#x27; &#128;",
                "this¬ that ¬it; 'x' €",
            ),
            (
                "e\u{301}cole \u{85}next\u{2028}line\r\nend",
                "école …next line end",
            ),
            (
                "a\u{1b}[36;44mblue\u{1b}[0m b\u{0}c\u{feff}\u{1c}d",
                "ablue bcd",
            ),
            ("red\u{a0}fox &nbsp; jumps", "red fox jumps"),
            ("x &frac12; &hearts; &Zopf; &fjlig;", "x ½ ♥ ℤ fj"),
            ("色调艳丽，过曝，静态", "色调艳丽,过曝,静态"),
            ("", ""),
        ] {
            assert_eq!(clean_prompt(prompt), cleaned, "{prompt:?}");
        }
    }
}
