//! Holds every call against GitHub's own OpenAPI document (npm `@octokit/openapi`), where `tests/run` has installed it: is
//! there such an operation, are its parameters known and of their type, does the body fit its schema.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The newest GitHub Enterprise Server, which the fake is in the manner of, and github.com.
const DOCUMENTS: [&str; 2] = ["ghes-3.19.json", "api.github.com.json"];

/// One operation.
struct Operation {
    template: Vec<String>,
    /// Parameters in the query, with their values' schemas where one is an enumeration.
    query: BTreeMap<String, BTreeSet<String>>,
    required: Vec<String>,
    body: Option<SchemaIndex>,
    name: String,
}

/// GitHub's documents, as far as calls are held against them.
pub struct Document {
    /// By document and method.
    operations: Vec<(&'static str, BTreeMap<String, Vec<Operation>>)>,
    schemas: Schemas,
    /// The operations that were called, by document.
    called: Mutex<BTreeSet<String>>,
}

/// Where `tests/run` puts the documents.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/npm/octokit-openapi")
}

impl Document {
    /// The documents, read once; `None` where they are not installed.
    pub fn installed() -> Option<Arc<Document>> {
        static READ: OnceLock<Option<Arc<Document>>> = OnceLock::new();
        READ.get_or_init(|| {
            let texts: Option<Vec<_>> = DOCUMENTS
                .into_iter()
                .map(|name| Some((name, std::fs::read(folder().join(name)).ok()?)))
                .collect();
            let Some(texts) = texts else {
                eprintln!(
                    "skipped: GitHub's OpenAPI documents are not in {}",
                    folder().display()
                );
                return None;
            };
            Some(Arc::new(Document::read(texts)))
        })
        .clone()
    }

    fn read(texts: Vec<(&'static str, Vec<u8>)>) -> Document {
        let mut compiler = Compiler::new();
        let mut schemas = Schemas::new();
        let mut operations = Vec::new();
        for (name, text) in texts {
            let document: Value = serde_json::from_slice(&text).expect("GitHub's document is JSON");
            let mut by_method: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
            let paths = document["paths"].as_object().cloned().unwrap_or_default();
            for (path, methods) in paths {
                for (method, it) in methods.as_object().into_iter().flatten() {
                    if !is_used(&path) {
                        continue;
                    }
                    let mut operation = Operation {
                        template: path
                            .trim_start_matches('/')
                            .split('/')
                            .map(str::to_owned)
                            .collect(),
                        query: BTreeMap::new(),
                        required: Vec::new(),
                        body: None,
                        name: format!("{} {path}", method.to_uppercase()),
                    };
                    for parameter in it["parameters"].as_array().into_iter().flatten() {
                        let parameter = resolved(&document, parameter);
                        let key = parameter["name"].as_str().unwrap_or_default().to_owned();
                        if parameter["in"] != "query" {
                            continue;
                        }
                        if parameter["required"] == true {
                            operation.required.push(key.clone());
                        }
                        let schema = resolved(&document, &parameter["schema"]);
                        let values = schema["enum"].as_array().into_iter().flatten();
                        let values = values.filter_map(|it| it.as_str().map(str::to_owned));
                        operation.query.insert(key, values.collect());
                    }
                    let schema = &it["requestBody"]["content"]["application/json"]["schema"];
                    if schema.is_object() {
                        let location = format!(
                            "https://openapi.example/{name}/{}",
                            operation.name.replace(['{', '}', ' '], "-")
                        );
                        compiler
                            .add_resource(&location, inlined(&document, schema, 0))
                            .expect("a schema");
                        let index = compiler.compile(&location, &mut schemas);
                        operation.body = Some(index.unwrap_or_else(|e| panic!("{location}: {e}")));
                    }
                    by_method
                        .entry(method.to_uppercase())
                        .or_default()
                        .push(operation);
                }
            }
            operations.push((name, by_method));
        }
        Document {
            operations,
            schemas,
            called: Mutex::default(),
        }
    }

    /// What is wrong with a call, in every document.
    pub fn check(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Result<(), String> {
        let segments: Vec<&str> = path.split('/').collect();
        for (name, by_method) in &self.operations {
            let wrong = |what: String| Err(format!("{name}: {method} /{path}?{query}: {what}"));
            let candidates = by_method.get(method).into_iter().flatten();
            // A literal segment is nearer than a parameter.
            let found = candidates
                .filter(|it| fits(&it.template, &segments))
                .min_by_key(|it| it.template.iter().filter(|it| it.starts_with('{')).count());
            let Some(operation) = found else {
                return wrong("there is no such operation".to_owned());
            };
            let given: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect();
            for (key, value) in &given {
                match operation.query.get(key) {
                    None => return wrong(format!("it takes no {key}")),
                    Some(values) if !values.is_empty() && !values.contains(value) => {
                        return wrong(format!("{key} can't be {value}"));
                    }
                    Some(_) => {}
                }
            }
            if let Some(missing) = operation
                .required
                .iter()
                .find(|it| !given.iter().any(|(key, _)| key == *it))
            {
                return wrong(format!("it needs {missing}"));
            }
            if let (Some(index), false) = (operation.body, body.is_empty()) {
                let value: Value = match serde_json::from_slice(body) {
                    Ok(value) => value,
                    Err(error) => return wrong(format!("its body is no JSON: {error}")),
                };
                if let Err(error) = self.schemas.validate(&value, index) {
                    return wrong(format!("its body does not fit: {error}"));
                }
            }
            let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
            called.insert(format!("{name}: {}", operation.name));
        }
        Ok(())
    }

    /// The operations that were called so far.
    pub fn called(&self) -> BTreeSet<String> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The parts of GitHub's API this product calls: compiling all 800 paths would take seconds.
fn is_used(path: &str) -> bool {
    [
        "/app",
        "/meta",
        "/users/{username}",
        "/installation/repositories",
        "/repos/{owner}/{repo}",
    ]
    .contains(&path)
        || [
            "/app/",
            "/app-manifests/",
            "/repos/{owner}/{repo}/installation",
            "/repos/{owner}/{repo}/branches/{branch}",
            "/repos/{owner}/{repo}/git/",
            "/repos/{owner}/{repo}/commits",
            "/repos/{owner}/{repo}/statuses",
            "/repos/{owner}/{repo}/compare",
            "/repos/{owner}/{repo}/activity",
            "/repos/{owner}/{repo}/rules",
            "/repos/{owner}/{repo}/pulls",
            "/repos/{owner}/{repo}/deployments",
            "/repos/{owner}/{repo}/environments",
            "/repos/{owner}/{repo}/actions/runs",
        ]
        .iter()
        .any(|it| path.starts_with(it))
}

fn resolved<'a>(document: &'a Value, it: &'a Value) -> &'a Value {
    match it["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).expect("a reference that resolves"),
        None => it,
    }
}

/// A schema with what it refers to in place.
fn inlined(document: &Value, schema: &Value, depth: usize) -> Value {
    assert!(depth < 40, "a schema that holds itself");
    match resolved(document, schema) {
        Value::Object(fields) => fields
            .iter()
            // OpenAPI's own words that say nothing here or something else than in JSON Schema.
            .filter(|(name, _)| !matches!(name.as_str(), "example" | "discriminator" | "xml"))
            .map(|(name, it)| (name.clone(), inlined(document, it, depth + 1)))
            .collect(),
        Value::Array(items) => items.iter().map(|it| inlined(document, it, depth + 1)).collect(),
        other => other.clone(),
    }
}

fn fits(template: &[String], segments: &[&str]) -> bool {
    // A ref in a path may hold slashes.
    if template.last().is_some_and(|it| it == "{ref}") && segments.len() > template.len() {
        return fits(template, &segments[..template.len()]);
    }
    template.len() == segments.len()
        && template
            .iter()
            .zip(segments)
            .all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}
