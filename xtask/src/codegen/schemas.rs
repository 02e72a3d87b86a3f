//! The schemas behind the command table, under names that are unique across input and output.
//!
//! One Rust type can look different on its way in (members with defaults may be left out) and on
//! its way out (they are always there). Where it does, the way in is named `…Input`.

use std::collections::BTreeSet;

use kinora_app::commands::{COMMANDS, Command};
use schemars::{
    JsonSchema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value};

/// Where definitions lie in the document.
pub const DEFINITIONS: &str = "#/components/schemas/";

/// The table with its schemas.
pub struct Api {
    /// In the order of the table.
    pub commands: Vec<Entry>,
    /// Every named schema.
    pub definitions: Map<String, Value>,
}

/// One command with its schemas.
pub struct Entry {
    /// The row of the table.
    pub command: &'static Command,
    /// Schema of the input; mostly a reference.
    pub input: Value,
    /// Schema of the output; mostly a reference.
    pub output: Value,
}

impl Api {
    /// Reads the command table.
    pub fn collect() -> Self {
        let mut incoming = generator(Contract::Deserialize);
        let mut outgoing = generator(Contract::Serialize);
        let mut commands: Vec<Entry> = COMMANDS
            .iter()
            .map(|command| Entry {
                command,
                input: (command.input_schema)(&mut incoming).to_value(),
                output: (command.output_schema)(&mut outgoing).to_value(),
            })
            .collect();
        // What travels besides the commands: errors, the socket's events, uploads.
        add::<kinora_core::Problems>(&mut outgoing);
        add::<kinora_core::Event>(&mut outgoing);
        add::<kinora_app::metadata::MetadataReading>(&mut outgoing);

        let mut inputs = incoming.take_definitions(true);
        let mut definitions = outgoing.take_definitions(true);
        let renamed = find_differing(&inputs, &definitions);
        for schema in inputs.values_mut() {
            rename_references(schema, &renamed);
        }
        for entry in &mut commands {
            rename_references(&mut entry.input, &renamed);
        }
        for (name, schema) in inputs {
            let name = if renamed.contains(&name) {
                format!("{name}Input")
            } else {
                name
            };
            definitions.insert(name, schema);
        }
        definitions.sort_keys();
        Self {
            commands,
            definitions,
        }
    }

    /// The schema itself, where `schema` is a reference to a named one.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        reference_name(schema)
            .and_then(|name| self.definitions.get(name))
            .unwrap_or(schema)
    }
}

/// The name that a reference points at.
pub fn reference_name(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(DEFINITIONS)
}

fn generator(contract: Contract) -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
        })
        .into_generator()
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Names that mean different things in the two sets, directly or through what they refer to.
fn find_differing(inputs: &Map<String, Value>, outputs: &Map<String, Value>) -> BTreeSet<String> {
    let mut differing: BTreeSet<String> = inputs
        .iter()
        .filter(|(name, schema)| outputs.get(*name).is_some_and(|output| output != *schema))
        .map(|(name, _)| name.clone())
        .collect();
    loop {
        let before = differing.len();
        for (name, schema) in inputs {
            if outputs.contains_key(name) && refers_to_any(schema, &differing) {
                differing.insert(name.clone());
            }
        }
        if differing.len() == before {
            return differing;
        }
    }
}

fn refers_to_any(schema: &Value, names: &BTreeSet<String>) -> bool {
    if reference_name(schema).is_some_and(|name| names.contains(name)) {
        return true;
    }
    match schema {
        Value::Object(members) => members.values().any(|member| refers_to_any(member, names)),
        Value::Array(items) => items.iter().any(|item| refers_to_any(item, names)),
        _ => false,
    }
}

fn rename_references(schema: &mut Value, renamed: &BTreeSet<String>) {
    if let Some(name) = reference_name(schema).filter(|name| renamed.contains(*name)) {
        let target = format!("{DEFINITIONS}{name}Input");
        schema["$ref"] = Value::String(target);
    }
    match schema {
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| rename_references(member, renamed)),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename_references(item, renamed)),
        _ => {}
    }
}
