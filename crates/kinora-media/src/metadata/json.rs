//! JSON as generation programs write it: with NaN, with numbers in strings, with documents inside
//! strings.

use kinora_core::Seed;
use serde::Serialize;
use serde_json::{Map, Value};

/// Parses JSON in which `NaN` and `Infinity` may stand for numbers (they become null), and which may
/// be wrapped in a JSON string once or twice. Depth is limited by the parser.
pub(super) fn parse(text: &str) -> Option<Value> {
    let text = text
        .trim_start_matches('\u{feff}')
        .trim()
        .trim_end_matches('\0');
    let mut value: Value = serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&replace_non_finite(text)))
        .ok()?;
    for _ in 0..2 {
        match &value {
            Value::String(inner) if inner.trim_start().starts_with(['{', '[', '"']) => {
                value = serde_json::from_str(inner)
                    .or_else(|_| serde_json::from_str(&replace_non_finite(inner)))
                    .ok()?;
            }
            _ => break,
        }
    }
    Some(value)
}

/// Like [`parse`], for objects.
pub(super) fn parse_object(text: &str) -> Option<Map<String, Value>> {
    match parse(text)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Replaces the bare words that Python writes and JSON does not have. Strings are left alone.
fn replace_non_finite(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_in_string = false;
    while let Some(c) = rest.chars().next() {
        if is_in_string && c == '\\' {
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if c == '"' {
            is_in_string = !is_in_string;
        } else if !is_in_string
            && let Some(word) = ["NaN", "-Infinity", "Infinity"]
                .into_iter()
                .find(|word| rest.starts_with(word))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// A text that is not empty; numbers and booleans as they are written.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// A number, or a string with one.
pub(super) fn float(value: &Value) -> Option<f32> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let number = number as f32;
    number.is_finite().then_some(number)
}

/// A whole number that is not negative, or a string with one. `30.0` counts as whole.
pub(super) fn whole(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => u32::try_from(whole).ok(),
            None => {
                let float = number.as_f64()?;
                (float >= 0.0 && float.fract() == 0.0 && float <= f64::from(u32::MAX))
                    .then_some(float as u32)
            }
        },
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A seed. Negative ones stand for "random" in other programs and say nothing.
pub(super) fn seed(value: &Value) -> Option<Seed> {
    match value {
        Value::Number(number) => number.as_u64().map(Seed),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The first of some keys that yields something.
pub(super) fn first<T>(
    object: &Map<String, Value>,
    keys: &[&str],
    read: impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    keys.iter().find_map(|key| object.get(*key).and_then(&read))
}

/// The name that a unit variant has on the wire.
pub(super) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// `1024x768`, `1024×768`, `(1024, 768)`.
pub(super) fn size(text: &str) -> Option<(u32, u32)> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    let (width, height) = text.split_once(['x', '×', ','])?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_are_taken_out_of_everything_but_strings() {
        let value =
            parse(r#"{"a":NaN,"b":[-Infinity,Infinity,1],"c":"NaN \" NaN","d":"\\"}"#).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a":null,"b":[null,null,1],"c":"NaN \" NaN","d":"\\"})
        );
    }

    #[test]
    fn documents_inside_strings_are_opened() {
        let inner = serde_json::json!({"1":{"class_type":"X"}});
        let once = serde_json::to_string(&inner.to_string()).unwrap();
        assert_eq!(parse(&once).unwrap(), inner);
        assert_eq!(
            parse(&serde_json::to_string(&once).unwrap()).unwrap(),
            inner
        );
        assert!(parse(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn numbers_come_in_several_clothes() {
        use serde_json::json;
        assert_eq!(whole(&json!(30.0)), Some(30));
        assert_eq!(whole(&json!("512")), Some(512));
        assert_eq!(whole(&json!(-1)), None);
        assert_eq!(
            seed(&json!(18_446_744_073_709_551_615_u64)),
            Some(Seed(u64::MAX))
        );
        assert_eq!(seed(&json!(-1)), None);
        assert_eq!(size("(1152, 896)"), Some((1152, 896)));
        assert_eq!(size("512x768"), Some((512, 768)));
    }
}
