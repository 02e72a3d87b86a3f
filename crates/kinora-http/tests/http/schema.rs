//! The committed OpenAPI document as a test sees it: samples made from its schemas, and values held
//! against them.

use serde_json::{Map, Value, json};

pub struct Api {
    pub document: Value,
}

impl Api {
    pub fn committed() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        Self {
            document: serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
        }
    }

    /// Every operation: path, method, description.
    pub fn operations(&self) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (path, method, operation))
        })
    }

    pub fn operation(&self, id: &str) -> (&Value, &String) {
        let found = self
            .operations()
            .find(|(_, _, operation)| operation["operationId"] == id);
        let (path, _, operation) = found.unwrap_or_else(|| panic!("no operation {id}"));
        (operation, path)
    }

    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference
                    .strip_prefix('#')
                    .expect("references stay in the document");
                let target = self.document.pointer(pointer);
                self.resolve(target.unwrap_or_else(|| panic!("{reference} points at nothing")))
            }
            None => schema,
        }
    }

    /// A small value that the schema allows: members that may be left out are left out.
    pub fn sample(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[0].clone();
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let mut sample = self.sample(&choices[0]);
                self.add_members(schema, &mut sample);
                return sample;
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.sample(&parts[0]);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[0].as_str(),
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => match schema["format"].as_str() {
                Some("uuid") => json!("01900000-0000-7000-8000-000000000001"),
                _ => json!("1"),
            },
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("null") => Value::Null,
            _ => {
                let mut sample = json!({});
                self.add_members(schema, &mut sample);
                sample
            }
        }
    }

    fn add_members(&self, schema: &Value, sample: &mut Value) {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            sample[name] = self.sample(&schema["properties"][name]);
        }
    }

    /// Everything in which a value differs from a schema.
    pub fn differences(&self, value: &Value, schema: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(value, schema, "", &mut found);
        found
    }

    fn compare(&self, value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if schema == &Value::Bool(true) {
            return;
        }
        if let Some(expected) = schema.get("const")
            && expected != value
        {
            found.push(format!("{at}: {value} is not {expected}"));
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            found.push(format!("{at}: {value} is none of {values:?}"));
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let fits = choices
                    .iter()
                    .filter(|choice| self.differences(value, choice).is_empty())
                    .count();
                if fits == 0 {
                    found.push(format!("{at}: {value} fits no choice"));
                }
            }
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.compare(value, part, at, found);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is_kind = kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number");
        if !kinds.is_empty() && !is_kind {
            found.push(format!("{at}: {value} is no {kinds:?}"));
        }
        if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
            for (index, item) in items.iter().enumerate() {
                self.compare(item, schema, &format!("{at}/{index}"), found);
            }
        }
        if let Value::Object(members) = value {
            self.compare_members(members, schema, at, found);
        }
    }

    fn compare_members(
        &self,
        members: &Map<String, Value>,
        schema: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) {
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !members.contains_key(name) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in members {
            if let Some(schema) = schema["properties"].get(name) {
                self.compare(value, schema, &format!("{at}/{name}"), found);
            } else if schema["additionalProperties"] == json!(false) {
                found.push(format!("{at}: {name} is unknown"));
            }
        }
    }
}
