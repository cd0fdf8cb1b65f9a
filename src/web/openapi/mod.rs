//! The API's description: one list of operations, from which both the OpenAPI document and the reference page are made.
//! A test holds it against the routes.

mod administration;
mod forges;
mod notices;
mod people;
mod pipelines;
mod rules;
mod schema;
#[cfg(test)]
mod tests;

pub use schema::{Schema, kind_of, members};

use serde_json::{Map, Value, json};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Anybody,
    /// Keys alone, in words.
    Keys(&'static str),
    /// Signed-in people alone, in words.
    People(&'static str),
    /// Both, in words.
    Both(&'static str),
}

impl Who {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Who::Anybody => "Anybody",
            Who::Keys(words) | Who::People(words) | Who::Both(words) => words,
        }
    }
}

/// A parameter that is not part of the path.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    pub required: bool,
    pub about: &'static str,
    pub schema: Schema,
}

/// What a body is made of.
#[derive(Clone, Debug)]
pub enum Content {
    Nothing,
    Json(Schema),
    /// Bytes of another type.
    Other(&'static str),
}

/// A good answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub about: &'static str,
    pub content: Content,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Lower case.
    pub method: &'static str,
    pub path: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    pub who: Who,
    pub parameters: Vec<Parameter>,
    pub body: Content,
    /// Bodies of any type are taken, and read as what the operation says.
    pub any_type: bool,
    pub answers: Vec<Answer>,
    /// Refusals besides those that follow from the rest.
    pub refusals: Vec<u16>,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, title: &'static str) -> Self {
        Operation {
            method,
            path,
            title,
            about: "",
            who: Who::Anybody,
            parameters: Vec::new(),
            body: Content::Nothing,
            any_type: false,
            answers: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn get(path: &'static str, title: &'static str) -> Self {
        Operation::new("get", path, title)
    }

    fn post(path: &'static str, title: &'static str) -> Self {
        Operation::new("post", path, title)
    }

    fn put(path: &'static str, title: &'static str) -> Self {
        Operation::new("put", path, title)
    }

    fn patch(path: &'static str, title: &'static str) -> Self {
        Operation::new("patch", path, title)
    }

    fn delete(path: &'static str, title: &'static str) -> Self {
        Operation::new("delete", path, title)
    }

    fn who(mut self, who: Who) -> Self {
        self.who = who;
        self
    }

    fn about(mut self, text: &'static str) -> Self {
        self.about = text;
        self
    }

    fn query(mut self, name: &'static str, about: &'static str, schema: Schema) -> Self {
        self.parameters.push(Parameter {
            name,
            place: "query",
            required: false,
            about,
            schema,
        });
        self
    }

    fn needed_query(mut self, name: &'static str, about: &'static str, schema: Schema) -> Self {
        self = self.query(name, about, schema);
        if let Some(last) = self.parameters.last_mut() {
            last.required = true;
        }
        self
    }

    fn header(mut self, name: &'static str, about: &'static str, schema: Schema) -> Self {
        self.parameters.push(Parameter {
            name,
            place: "header",
            required: false,
            about,
            schema,
        });
        self
    }

    /// It changes the configuration, so it says why.
    fn reason(self) -> Self {
        self.header(
            "X-Reason",
            "Why, for the journal: has to be given here or, where there is one, in the body's `reason`. UTF-8, or as RFC 8187 \
             writes it",
            Schema::at_most(500),
        )
    }

    fn paging(self) -> Self {
        self.query("after", "The cursor of the page before", Schema::text())
            .query("limit", "Items of the page", Schema::integer(1, 100))
    }

    fn body(mut self, schema: Schema) -> Self {
        self.body = Content::Json(schema);
        self
    }

    /// A body that is no JSON, of any `Content-Type`.
    fn bytes(mut self, kind: &'static str) -> Self {
        self.any_type = true;
        self.body = Content::Other(kind);
        self
    }

    /// A JSON body of any `Content-Type`.
    fn raw_body(mut self, schema: Schema) -> Self {
        self.any_type = true;
        self.body(schema)
    }

    fn answers(mut self, status: u16, about: &'static str, schema: Schema) -> Self {
        self.answers.push(Answer {
            status,
            about,
            content: Content::Json(schema),
        });
        self
    }

    fn answers_bytes(mut self, status: u16, about: &'static str, kind: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            about,
            content: Content::Other(kind),
        });
        self
    }

    fn answers_nothing(mut self, about: &'static str) -> Self {
        self.answers.push(Answer {
            status: 204,
            about,
            content: Content::Nothing,
        });
        self
    }

    fn refuses(mut self, statuses: &[u16]) -> Self {
        self.refusals.extend_from_slice(statuses);
        self
    }

    /// The names in braces.
    pub fn path_parameters(&self) -> Vec<&'static str> {
        self.path
            .split('{')
            .skip(1)
            .filter_map(|it| it.split('}').next())
            .collect()
    }

    /// Every status it refuses with.
    pub fn all_refusals(&self) -> Vec<u16> {
        let mut all = self.refusals.clone();
        let changes = self.method != "get";
        match self.who {
            Who::Anybody if changes => all.extend([403]),
            Who::Anybody => {}
            // A key may be without the scope, a session's call from another site.
            _ => all.extend([401, 403]),
        }
        if matches!(self.who, Who::Keys(_) | Who::Both(_)) {
            all.push(429);
        }
        if !self.path_parameters().is_empty() {
            all.push(404);
        }
        if self.parameters.iter().any(|it| it.place == "query") {
            all.push(400);
        }
        if !matches!(self.body, Content::Nothing) {
            all.extend([400, 413]);
            if !self.any_type {
                all.push(415);
            }
        }
        if changes {
            all.push(503);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A part of the API, with a heading on the reference page.
pub struct Area {
    pub name: &'static str,
    pub about: &'static str,
    pub operations: Vec<Operation>,
}

/// Everything below `/api/v1`, in the order of the reference page.
pub fn areas() -> Vec<Area> {
    vec![
        pipelines::requests(),
        pipelines::proofs(),
        people::own(),
        people::decisions(),
        administration::people(),
        administration::keys(),
        forges::integrations(),
        rules::policies(),
        rules::governance(),
        administration::records(),
        notices::notices(),
        notices::upkeep(),
    ]
}

/// The OpenAPI 3.1 document of an appliance at `public_url`.
pub fn document(public_url: &str, version: &str, cookie: &str) -> Value {
    let (mut paths, mut tags) = (Map::new(), Vec::new());
    for area in areas() {
        tags.push(json!({ "name": area.name, "description": area.about }));
        for operation in &area.operations {
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method] = described(operation, area.name);
        }
    }
    let mut responses = Map::new();
    for status in [400, 401, 403, 404, 409, 413, 415, 422, 429, 503] {
        responses.insert(refusal_name(status), refusal(status));
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "SignedApproval",
            "version": version,
            "description": "Approvals that are signed by the approver's own passkey. Errors are RFC 9457 problem documents; \
                            every 2xx to a call that changes something is durable. Foreign and unknown ids get the same 404.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": public_url }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schema::components(),
            "responses": responses,
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key, `sa_…`. It can never decide." },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": cookie,
                    "description": "A person's session. Every call that is not GET needs the header `Origin` with the \
                                    appliance's own address, or `Sec-Fetch-Site: same-origin`.",
                },
            },
        },
    })
}

fn described(operation: &Operation, tag: &str) -> Value {
    let mut parameters: Vec<Value> = operation
        .path_parameters()
        .into_iter()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    for it in &operation.parameters {
        parameters.push(json!({
            "name": it.name, "in": it.place, "required": it.required, "description": it.about,
            "schema": it.schema.value(),
        }));
    }
    let mut responses = Map::new();
    for answer in &operation.answers {
        let mut response = json!({ "description": answer.about });
        if let Some(content) = content(&answer.content) {
            response["content"] = content;
        }
        responses.insert(answer.status.to_string(), response);
    }
    for status in operation.all_refusals() {
        let name = refusal_name(status);
        responses.insert(
            status.to_string(),
            json!({ "$ref": format!("#/components/responses/{name}") }),
        );
    }
    let (key, session) = (json!({ "key": [] }), json!({ "session": [] }));
    let mut out = json!({
        "operationId": operation_id(operation),
        "summary": operation.title,
        "description": format!("{}. {}", operation.who.words(), operation.about).trim_end(),
        "tags": [tag],
        "security": match operation.who {
            Who::Anybody => json!([]),
            Who::Keys(_) => json!([key]),
            Who::People(_) => json!([session]),
            Who::Both(_) => json!([key, session]),
        },
        "responses": responses,
    });
    if !parameters.is_empty() {
        out["parameters"] = json!(parameters);
    }
    if let Some(content) = content(&operation.body) {
        out["requestBody"] = json!({ "required": true, "content": content });
    }
    out
}

/// A name for generated clients, from method and path: `post_approvals_id_cancel`.
pub fn operation_id(operation: &Operation) -> String {
    let path = operation.path.trim_start_matches("/api/v1/");
    let words: String = path
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '_' })
        .filter(|it| it.is_ascii())
        .collect();
    let words: Vec<&str> = words.split('_').filter(|it| !it.is_empty()).collect();
    format!("{}_{}", operation.method, words.join("_"))
}

fn content(content: &Content) -> Option<Value> {
    match content {
        Content::Nothing => None,
        Content::Json(schema) => Some(json!({ "application/json": { "schema": schema.value() } })),
        Content::Other(kind) => {
            let shape = if kind.ends_with("json") {
                "object"
            } else {
                "string"
            };
            Some(json!({ *kind: { "schema": { "type": shape } } }))
        }
    }
}

fn refusal_name(status: u16) -> String {
    format!("Refusal{status}")
}

/// What a refusal's status means, in a sentence.
pub fn refusal_words(status: u16) -> &'static str {
    match status {
        400 => "Not well formed; `field` names the member.",
        401 => "No credentials, or none that count.",
        403 => "Not allowed, or called from another site.",
        404 => "Nothing by that id that the caller may know of.",
        409 => "Used, outdated, or in conflict with what is recorded.",
        413 => "The body is too large.",
        415 => "The body is not `application/json` by its own word.",
        422 => "Well formed, and a value breaks a rule; `field` names it.",
        429 => "Too much at once; `Retry-After` says when to come back.",
        503 => "Nothing happened: busy, sealed, or the clock is unsound; or it is not known (`stopped`).",
        _ => "Refused.",
    }
}

fn refusal(status: u16) -> Value {
    let mut out = json!({
        "description": refusal_words(status),
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    if matches!(status, 429 | 503) {
        out["headers"] = json!({
            "Retry-After": { "description": "Seconds", "schema": { "type": "string", "pattern": "^[0-9]+$" } },
        });
    }
    out
}
