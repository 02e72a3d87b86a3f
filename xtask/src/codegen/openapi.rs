//! The OpenAPI 3.1 document: one operation per command, and the routes that carry bytes.

use kinora_app::commands::Command;
use serde_json::{Map, Value, json};

use super::schemas::{Api, Entry};

/// The text of `docs/openapi.json`.
pub fn document(api: &Api) -> String {
    let mut paths = Map::new();
    for entry in &api.commands {
        let method = entry.command.method.as_str().to_lowercase();
        member(&mut paths, entry.command.path)[method] = operation(api, entry);
    }
    for (path, methods) in byte_routes() {
        paths.insert(path.to_owned(), methods);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kinora",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Makes pictures with diffusion models on your own machine. \
                Every operation of the window is here. Errors are `Problems`: a code, what went \
                wrong, and what to do next. `GET /ws` is a WebSocket that sends every `Event` as \
                JSON; send `{\"subscribe\": [\"<job>\"]}` to follow single jobs only.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": api.definitions,
            "responses": {
                "Refused": {
                    "description": "Refused: 400 for invalid input, 401 without a token, 403 for a \
                        wrong Host or Origin, 404, 405 for another method, 409 when the state does \
                        not allow it, 413 for a body that is too long, 415 for an unknown file or a \
                        body that is not declared as JSON, 422 for a model that cannot be used, 503 \
                        without an engine, 507 when memory or disk do not suffice, 500 otherwise.",
                    "content": { "application/json": {
                        "schema": { "$ref": "#/components/schemas/Problems" }
                    } }
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that the server printed when it started. Not needed \
                        on a loopback address without one."
                }
            }
        }
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn operation(api: &Api, entry: &Entry) -> Value {
    let command = entry.command;
    let input = api.resolve(&entry.input);
    let mut operation = json!({
        "operationId": command.name,
        "summary": command.summary,
        "tags": [command.name.split('_').next()],
        "parameters": parameters(command, input),
        "responses": {
            "200": {
                "description": "Done",
                "content": { "application/json": { "schema": entry.output } }
            },
            "default": { "$ref": "#/components/responses/Refused" }
        }
    });
    if let Some(body) = body(command, &entry.input, input) {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body } }
        });
    }
    operation
}

/// The members of the input that travel in the path, and in the query where there is no body.
fn parameters(command: &Command, input: &Value) -> Vec<Value> {
    let in_path: Vec<&str> = command.path_parameters().collect();
    let no_members = Map::new();
    let properties = input["properties"].as_object().unwrap_or(&no_members);
    properties
        .iter()
        .filter_map(|(name, schema)| {
            let place = if in_path.contains(&name.as_str()) {
                "path"
            } else if command.method.has_body() {
                return None;
            } else {
                "query"
            };
            let is_required = input["required"]
                .as_array()
                .is_some_and(|required| required.iter().any(|member| member == name));
            let mut schema = schema.clone();
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            Some(json!({
                "name": name,
                "in": place,
                "required": is_required,
                "description": description,
                "schema": schema
            }))
        })
        .collect()
}

/// The members of the input that travel in the body.
fn body(command: &Command, reference: &Value, input: &Value) -> Option<Value> {
    if !command.method.has_body() {
        return None;
    }
    let in_path: Vec<&str> = command.path_parameters().collect();
    let properties = input["properties"].as_object()?;
    if in_path.is_empty() {
        return Some(reference.clone());
    }
    let rest: Map<String, Value> = properties
        .iter()
        .filter(|(name, _)| !in_path.contains(&name.as_str()))
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    if rest.is_empty() {
        return None;
    }
    let required: Vec<&Value> = input["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|name| name.as_str().is_some_and(|name| rest.contains_key(name)))
        .collect();
    Some(json!({
        "type": "object",
        "properties": rest,
        "required": required,
        "additionalProperties": false
    }))
}

/// Routes that hosts write by hand.
fn byte_routes() -> Vec<(&'static str, Value)> {
    let id = json!({
        "name": "id", "in": "path", "required": true,
        "schema": { "type": "string", "format": "uuid" }
    });
    let picture = json!({
        "description": "The picture",
        "content": { "image/*": { "schema": { "type": "string", "format": "binary" } } }
    });
    let refused = json!({ "$ref": "#/components/responses/Refused" });
    let file = json!({ "type": "string", "format": "binary" });
    vec![
        (
            "/api/bulk/file",
            json!({ "post": {
                "operationId": "bulk_file",
                "summary": "Reads a prompt list from a file; queues its pictures when asked to",
                "tags": ["bulk"],
                "parameters": [
                    {
                        "name": "name", "in": "query", "required": false,
                        "description": "Name of the file, where the body is the list itself",
                        "schema": { "type": "string" }
                    },
                    {
                        "name": "submit", "in": "query", "required": false,
                        "description": "Queue it, as bulk_submit does, instead of only checking it",
                        "schema": { "type": "boolean", "default": false }
                    }
                ],
                "requestBody": { "required": true, "content": {
                    "text/plain": { "schema": { "type": "string" } },
                    "multipart/form-data": { "schema": {
                        "type": "object",
                        "properties": {
                            "file": file,
                            "options": {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "description": "The other members of a bulk input"
                            }
                        },
                        "required": ["file"]
                    } }
                } },
                "responses": {
                    "200": { "description": "The check, or with submit what was queued", "content": {
                        "application/json": { "schema": { "anyOf": [
                            { "$ref": "#/components/schemas/BulkCheck" },
                            { "$ref": "#/components/schemas/Submitted" }
                        ] } }
                    } },
                    "default": refused
                }
            } }),
        ),
        (
            "/api/metadata",
            json!({ "post": {
                "operationId": "metadata_read",
                "summary": "Reads the settings out of a picture made by Kinora or another program",
                "tags": ["metadata"],
                "requestBody": { "required": true, "content": {
                    "application/octet-stream": { "schema": file },
                    "multipart/form-data": { "schema": {
                        "type": "object",
                        "properties": { "file": file },
                        "required": ["file"]
                    } }
                } },
                "responses": {
                    "200": { "description": "What the file says", "content": { "application/json": {
                        "schema": { "$ref": "#/components/schemas/MetadataReading" }
                    } } },
                    "default": refused
                }
            } }),
        ),
        (
            "/media/assets/{id}",
            json!({ "get": {
                "operationId": "media_asset",
                "summary": "The file of a stored picture; understands Range",
                "tags": ["media"],
                "parameters": [id],
                "responses": { "200": picture, "206": picture, "default": refused }
            } }),
        ),
        (
            "/media/thumbnails/{id}",
            json!({ "get": {
                "operationId": "media_thumbnail",
                "summary": "A small copy of a stored picture",
                "tags": ["media"],
                "parameters": [id, {
                    "name": "size", "in": "query", "required": false,
                    "description": "Longest side in pixels",
                    "schema": { "type": "integer", "enum": [256, 512] }
                }],
                "responses": { "200": picture, "default": refused }
            } }),
        ),
        (
            "/media/previews/{id}",
            json!({ "get": {
                "operationId": "media_preview",
                "summary": "The latest preview of a running job",
                "tags": ["media"],
                "parameters": [id, {
                    "name": "v", "in": "query", "required": false,
                    "description": "Revision, so that browsers do not show an older one",
                    "schema": { "type": "integer" }
                }],
                "responses": { "200": picture, "default": refused }
            } }),
        ),
        (
            "/media/sheets/{id}",
            json!({ "get": {
                "operationId": "media_sheet",
                "summary": "The contact sheet of a batch, once it was drawn",
                "tags": ["media"],
                "parameters": [id],
                "responses": { "200": picture, "default": refused }
            } }),
        ),
        (
            "/healthz",
            json!({ "get": {
                "operationId": "healthz",
                "summary": "Answers when the server lives",
                "tags": ["system"],
                "security": [{}],
                "responses": { "200": { "description": "It lives" } }
            } }),
        ),
        (
            "/pair",
            json!({ "get": {
                "operationId": "pair",
                "summary": "Leaves the token in a cookie and leads to the UI; for people's browsers",
                "tags": ["system"],
                "security": [{}],
                "parameters": [{
                    "name": "token", "in": "query", "required": true,
                    "schema": { "type": "string" }
                }],
                "responses": { "303": { "description": "Paired" }, "default": refused }
            } }),
        ),
    ]
}

fn member<'a>(paths: &'a mut Map<String, Value>, path: &str) -> &'a mut Value {
    paths
        .entry(path)
        .or_insert_with(|| Value::Object(Map::new()))
}
