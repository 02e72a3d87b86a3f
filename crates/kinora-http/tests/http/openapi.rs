//! The OpenAPI document: sound in itself, and what the server does.

use std::collections::HashSet;

use kinora_app::commands::COMMANDS;
use serde_json::{Value, json};

use crate::{fake::Site, schema::Api};

#[tokio::test]
async fn the_document_is_sound_and_served() {
    let site = Site::open().await;
    let answer = site.get("/api/openapi.json", &[]).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    let api = Api {
        document: answer.json(),
    };
    assert_eq!(api.document["openapi"], "3.1.0");
    assert!(
        api.document["info"]["title"].is_string() && api.document["info"]["version"].is_string()
    );

    let mut ids = HashSet::new();
    for (path, method, operation) in api.operations() {
        assert!(
            ["get", "post", "patch", "delete"].contains(&method.as_str()),
            "{method} {path}"
        );
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{path}: ids are unique"
        );
        let in_path: HashSet<&str> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let named: HashSet<&str> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(in_path, named, "{method} {path}");
        for parameter in &parameters {
            assert!(parameter["schema"].is_object(), "{path}");
            assert!(
                parameter["in"] != "path" || parameter["required"] == true,
                "{path}"
            );
        }
        assert!(
            !operation["responses"].as_object().unwrap().is_empty(),
            "{path}"
        );
    }
    for command in COMMANDS {
        assert!(ids.contains(command.name), "{command:?}");
    }
    // Every reference leads somewhere.
    let mut open = vec![&api.document];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                if members.get("$ref").is_some_and(Value::is_string) {
                    api.resolve(value);
                    references += 1;
                }
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(references > 50);
}

/// Walks the document: what it lists is there, takes what it says, and answers as it says.
#[tokio::test]
async fn every_route_answers_as_documented() {
    let site = Site::open().await;
    let api = Api::committed();
    let client = reqwest::Client::new();
    let mut walked = 0;
    for (path, method, operation) in api.operations() {
        let id = operation["operationId"].as_str().unwrap();
        let Some(command) = kinora_app::commands::find(id) else {
            continue;
        };
        let mut expected = json!({});
        let mut route = path.clone();
        let mut query = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let sample = api.sample(&parameter["schema"]);
            let items = if sample == json!([]) {
                vec![api.sample(&api.resolve(&parameter["schema"])["items"])]
            } else {
                vec![sample.clone()]
            };
            let text: Vec<String> = items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect();
            if parameter["in"] == "path" {
                route = route.replace(&format!("{{{name}}}"), &text[0]);
                expected[name] = sample;
            } else if sample != Value::Null {
                query.push((name, text.join(",")));
                expected[name] = if sample == json!([]) {
                    json!(items)
                } else {
                    sample
                };
            }
        }
        let mut request = client
            .request(method.to_uppercase().parse().unwrap(), site.url(&route))
            .query(&query);
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if body.is_object() {
            let sample = api.sample(body);
            expected
                .as_object_mut()
                .unwrap()
                .extend(sample.as_object().unwrap().clone());
            request = request.json(&sample);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let answer: Value = response.json().await.unwrap();
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(
            api.differences(&answer, schema),
            Vec::<String>::new(),
            "{method} {path}"
        );
        assert_eq!(
            site.app.asked(),
            [(command.name.to_owned(), expected)],
            "{method} {path}"
        );
        walked += 1;
    }
    assert_eq!(walked, COMMANDS.len());
}

#[tokio::test]
async fn refusals_are_documented_and_carry_problems() {
    use kinora_core::{Code, Problem};
    let site = Site::open().await;
    let api = Api::committed();
    let documented = &api.document["components"]["responses"]["Refused"];
    let schema = &documented["content"]["application/json"]["schema"];
    let text = documented["description"].as_str().unwrap();
    for (code, status) in [
        (Code::InvalidInput, 400),
        (Code::Unauthorized, 401),
        (Code::Forbidden, 403),
        (Code::NotFound, 404),
        (Code::Conflict, 409),
        (Code::UnsupportedFile, 415),
        (Code::UnknownModel, 422),
        (Code::ModelNotInstalled, 422),
        (Code::DiskFull, 507),
        (Code::OutOfMemory, 507),
        (Code::EngineUnavailable, 503),
        (Code::Internal, 500),
    ] {
        site.app.refuse(
            "queue_status",
            Problem::new(code, "it went wrong", "Try again.").at_line(3),
        );
        let answer = site.get("/api/queue", &[]).await;
        assert_eq!(answer.status, status, "{code:?}");
        assert!(text.contains(&status.to_string()), "{status} is documented");
        assert_eq!(
            api.differences(&answer.json(), schema),
            Vec::<String>::new()
        );
        assert_eq!(answer.json()["message"], "it went wrong");
        assert_eq!(answer.json()["line"], 3);
    }
}
