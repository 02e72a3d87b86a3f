//! Query strings into the JSON that commands take: which members are numbers, flags or lists is
//! read from the command's own schema.

use std::collections::BTreeMap;

use kinora_app::commands::Command;
use kinora_core::Problem;
use schemars::SchemaGenerator;
use serde_json::{Map, Number, Value};

/// What may stand at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    is_list: bool,
    is_number: bool,
    is_flag: bool,
    /// An empty text means "not given".
    is_nullable: bool,
}

/// The members of one command's input.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputShape {
    members: BTreeMap<String, Shape>,
}

/// References to references of this depth are broken off; real schemas have two.
const MAX_DEPTH: usize = 8;

impl InputShape {
    pub(crate) fn of(command: &Command) -> Self {
        let mut generator = SchemaGenerator::default();
        let schema = (command.input_schema)(&mut generator).to_value();
        let definitions = Value::Object(generator.take_definitions(true));
        let members = resolve(&schema, &definitions)["properties"].as_object();
        let members = members.into_iter().flatten().map(|(name, schema)| {
            let mut shape = Shape::default();
            add_shape(schema, &definitions, &mut shape, 0);
            (name.clone(), shape)
        });
        Self {
            members: members.collect(),
        }
    }

    /// The members that a query names. Unknown ones come through as text, for the command to refuse.
    pub(crate) fn read(&self, query: &str) -> Result<Map<String, Value>, Problem> {
        let mut input = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let shape = self.members.get(&name).copied().unwrap_or_default();
            if shape.is_list {
                let items = value
                    .split(',')
                    .filter(|item| !item.is_empty())
                    .map(|item| shape.value(item));
                match input
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()))
                {
                    Value::Array(list) => list.extend(items),
                    _ => unreachable!("a member is always a list or never"),
                }
            } else if !(value.is_empty() && shape.is_nullable)
                && input.insert(name.clone(), shape.value(&value)).is_some()
            {
                return Err(given_twice(&name));
            }
        }
        Ok(input)
    }

    /// One text that stands in the route.
    pub(crate) fn read_member(&self, name: &str, text: &str) -> Value {
        self.members
            .get(name)
            .copied()
            .unwrap_or_default()
            .value(text)
    }
}

/// A member that stands in two places.
pub(crate) fn given_twice(name: &str) -> Problem {
    let message = format!("{name} is given more than once");
    Problem::in_field(name, message, "Give it once.")
}

impl Shape {
    fn value(self, text: &str) -> Value {
        if self.is_flag {
            match text {
                "true" | "1" => return Value::Bool(true),
                "false" | "0" => return Value::Bool(false),
                _ => {}
            }
        }
        if self.is_number
            && let Ok(number) = text.parse::<Number>()
        {
            return Value::Number(number);
        }
        Value::String(text.to_owned())
    }
}

fn resolve<'a>(schema: &'a Value, definitions: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..MAX_DEPTH {
        let Some(name) = schema["$ref"]
            .as_str()
            .and_then(|name| name.rsplit('/').next())
        else {
            break;
        };
        schema = &definitions[name];
    }
    schema
}

fn add_shape(schema: &Value, definitions: &Value, shape: &mut Shape, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let schema = resolve(schema, definitions);
    let one = schema["type"].as_str();
    let many = schema["type"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for kind in one.into_iter().chain(many) {
        match kind {
            "integer" | "number" => shape.is_number = true,
            "boolean" => shape.is_flag = true,
            "null" => shape.is_nullable = true,
            "array" => {
                shape.is_list = true;
                add_shape(&schema["items"], definitions, shape, depth + 1);
            }
            _ => {}
        }
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            add_shape(schema, definitions, shape, depth + 1);
        }
    }
}

/// Undoes the encoding of forms: `+` for a space, `%XX` for bytes.
pub(crate) fn decode(text: &str) -> Result<String, Problem> {
    let refuse = || {
        Problem::new(
            kinora_core::Code::InvalidInput,
            "the address is not encoded as addresses are",
            "Write spaces as %20, and % as %25.",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(refuse)?, digit().ok_or_else(refuse)?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

/// Percent-encodes everything but unreserved characters (RFC 3986).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(command: &str, query: &str) -> Result<Value, Problem> {
        let command = kinora_app::commands::find(command).unwrap();
        InputShape::of(command).read(query).map(Value::Object)
    }

    #[test]
    fn members_get_the_types_of_the_schema() {
        assert_eq!(
            read(
                "jobs_list",
                "states=queued,running&states=done&active=true&offset=5&limit=&session=x"
            )
            .unwrap(),
            json!({"states": ["queued", "running", "done"], "active": true, "offset": 5, "session": "x"})
        );
        assert_eq!(
            read(
                "assets_list",
                "search=a+red%20fox%26co&trashed=0&sort=oldest&limit=7"
            )
            .unwrap(),
            json!({"search": "a red fox&co", "trashed": false, "sort": "oldest", "limit": 7})
        );
        // What does not fit comes through, for the command to name.
        assert_eq!(
            read("jobs_list", "offset=many&active=perhaps&nonsense=1").unwrap(),
            json!({"offset": "many", "active": "perhaps", "nonsense": "1"})
        );
        assert_eq!(read("jobs_list", "").unwrap(), json!({}));
        assert_eq!(read("jobs_list", "&&").unwrap(), json!({}));
    }

    #[test]
    fn numbers_in_texts_stay_texts() {
        assert_eq!(
            read("assets_list", "search=42&model=7").unwrap(),
            json!({"search": "42", "model": "7"})
        );
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "a b&c=d;e%20+", "猫 🤖/../x", "plain-token_1.~"] {
            assert_eq!(decode(&encode(text)).unwrap(), text);
        }
    }

    #[test]
    fn broken_queries_are_refused() {
        for query in ["search=%", "search=%zz", "search=%ff", "offset=1&offset=2"] {
            assert!(read("assets_list", query).is_err(), "{query}");
        }
    }
}
