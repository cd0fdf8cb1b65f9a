//! Holds calls against a vendor's own OpenAPI documents: is there such an operation, are its parameters known and of their
//! values, does the body fit its schema.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// One operation.
struct Operation {
    template: Vec<String>,
    /// Parameters in the query, with the values that are allowed where they are an enumeration.
    query: BTreeMap<String, BTreeSet<String>>,
    required: Vec<String>,
    body: Option<SchemaIndex>,
    name: String,
}

/// Which part of a vendor's API is read, and what goes for all of it.
pub struct Reading<'a> {
    /// The paths this product calls: compiling all of them would take seconds.
    pub is_used: fn(&str) -> bool,
    /// Query parameters that every operation takes.
    pub everywhere: &'a [&'a str],
    /// A last path parameter of that name may hold slashes.
    pub deep: &'a [&'a str],
}

/// A vendor's documents, as far as calls are held against them.
pub struct Document {
    /// By document and method.
    operations: Vec<(&'static str, BTreeMap<String, Vec<Operation>>)>,
    everywhere: Vec<String>,
    deep: Vec<String>,
    schemas: Schemas,
    /// The operations that were called, by document.
    called: Mutex<BTreeSet<String>>,
}

impl Document {
    pub fn read(texts: Vec<(&'static str, Vec<u8>)>, how: &Reading<'_>) -> Document {
        let mut compiler = Compiler::new();
        let mut schemas = Schemas::new();
        let mut operations = Vec::new();
        for (name, text) in texts {
            let document: Value = serde_json::from_slice(&text).expect("the document is JSON");
            let mut by_method: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
            let paths = document["paths"].as_object().cloned().unwrap_or_default();
            for (path, methods) in paths.iter().filter(|it| (how.is_used)(it.0)) {
                for (method, it) in methods.as_object().into_iter().flatten() {
                    if !it.is_object() {
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
                    let own = it["parameters"].as_array().into_iter().flatten();
                    let of_path = methods["parameters"].as_array().into_iter().flatten();
                    for parameter in own.chain(of_path) {
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
                    let content = &it["requestBody"]["content"];
                    let kinds = ["application/json", "*/*"].map(|it| &content[it]["schema"]);
                    if let Some(schema) = kinds.into_iter().find(|it| it.is_object()) {
                        let location = format!(
                            "https://openapi.example/{name}/{}",
                            operation.name.replace(['{', '}', ' '], "-")
                        );
                        let whole = inlined(&document, schema, &mut Vec::new());
                        compiler.add_resource(&location, whole).expect("a schema");
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
        let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
        Document {
            operations,
            everywhere: owned(how.everywhere),
            deep: owned(how.deep),
            schemas,
            called: Mutex::default(),
        }
    }

    /// What is wrong with a call, in every document. `path` without a leading slash.
    pub fn check(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Result<(), String> {
        let segments: Vec<&str> = path.split('/').collect();
        for (name, by_method) in &self.operations {
            let wrong = |what: String| Err(format!("{name}: {method} /{path}?{query}: {what}"));
            let candidates = by_method.get(method).into_iter().flatten();
            // A literal segment is nearer than a parameter, and one with something behind it nearer than a plain one.
            let open = |it: &String| usize::from(it.starts_with('{')) + usize::from(it.ends_with('}'));
            let found = candidates
                .filter(|it| self.fits(&it.template, &segments))
                .min_by_key(|it| it.template.iter().map(open).sum::<usize>());
            let Some(operation) = found else {
                return wrong("there is no such operation".to_owned());
            };
            let given: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect();
            for (key, value) in &given {
                match operation.query.get(key) {
                    None if self.everywhere.contains(key) => {}
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

    fn fits(&self, template: &[String], segments: &[&str]) -> bool {
        let deep = template
            .last()
            .is_some_and(|it| self.deep.iter().any(|name| *it == format!("{{{name}}}")));
        let segments = match deep && segments.len() > template.len() {
            true => &segments[..template.len()],
            false => segments,
        };
        template.len() == segments.len()
            && template
                .iter()
                .zip(segments)
                .all(|(wanted, given)| match wanted.rsplit_once('}') {
                    // `{id}`, or `{id}.diff`
                    Some((_, rest)) => given.len() > rest.len() && given.ends_with(rest),
                    None => wanted == given,
                })
    }
}

fn resolved<'a>(document: &'a Value, it: &'a Value) -> &'a Value {
    match it["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).expect("a reference that resolves"),
        None => it,
    }
}

/// A schema with what it refers to in place; `within`: the references it stands in. What holds itself is not looked into
/// twice.
fn inlined(document: &Value, schema: &Value, within: &mut Vec<String>) -> Value {
    if let Some(pointer) = schema["$ref"].as_str() {
        if within.iter().any(|it| it == pointer) {
            return json!(true);
        }
        within.push(pointer.to_owned());
        let found = inlined(document, resolved(document, schema), within);
        within.pop();
        return found;
    }
    match schema {
        Value::Object(fields) => fields
            .iter()
            // OpenAPI's own words that say nothing here or something else than in JSON Schema.
            .filter(|(name, _)| !matches!(name.as_str(), "example" | "discriminator" | "xml"))
            .map(|(name, it)| (name.clone(), inlined(document, it, within)))
            .collect(),
        Value::Array(items) => items.iter().map(|it| inlined(document, it, within)).collect(),
        other => other.clone(),
    }
}
