//! JSON schemas in few words, and those that several operations share.

use serde_json::{Map, Value, json};

/// A JSON schema (draft 2020-12).
#[derive(Clone, Debug)]
pub struct Schema(Value);

impl Schema {
    /// The schema as JSON.
    pub fn value(&self) -> Value {
        self.0.clone()
    }

    pub(super) fn any() -> Schema {
        Schema(json!({}))
    }

    pub(super) fn text() -> Schema {
        Schema(json!({ "type": "string" }))
    }

    /// 1 to `most` characters.
    pub(super) fn short(most: usize) -> Schema {
        Schema(json!({ "type": "string", "minLength": 1, "maxLength": most }))
    }

    /// At most `most` characters, or none.
    pub(super) fn at_most(most: usize) -> Schema {
        Schema(json!({ "type": "string", "maxLength": most }))
    }

    pub(super) fn matching(pattern: &str) -> Schema {
        Schema(json!({ "type": "string", "pattern": pattern }))
    }

    pub(super) fn time() -> Schema {
        Schema(json!({ "type": "string", "format": "date-time" }))
    }

    pub(super) fn boolean() -> Schema {
        Schema(json!({ "type": "boolean" }))
    }

    pub(super) fn integer(least: u64, most: u64) -> Schema {
        Schema(json!({ "type": "integer", "minimum": least, "maximum": most }))
    }

    pub(super) fn count() -> Schema {
        Schema(json!({ "type": "integer", "minimum": 0 }))
    }

    pub(super) fn one_of(words: &[&str]) -> Schema {
        Schema(json!({ "type": "string", "enum": words }))
    }

    pub(super) fn list(of: Schema) -> Schema {
        Schema(json!({ "type": "array", "items": of.0 }))
    }

    /// At most `most` items.
    pub(super) fn list_of(least: usize, most: usize, of: Schema) -> Schema {
        Schema(json!({ "type": "array", "items": of.0, "minItems": least, "maxItems": most }))
    }

    /// Or null.
    pub(super) fn or_null(self) -> Schema {
        match self.0.get("type").and_then(Value::as_str) {
            Some(kind) if self.0.get("enum").is_none() => {
                let mut schema = self.0.clone();
                schema["type"] = json!([kind, "null"]);
                Schema(schema)
            }
            _ => Schema(json!({ "anyOf": [self.0, { "type": "null" }] })),
        }
    }

    pub(super) fn named(name: &str) -> Schema {
        Schema(json!({ "$ref": format!("#/components/schemas/{name}") }))
    }

    pub(super) fn about(mut self, text: &str) -> Schema {
        self.0["description"] = json!(text);
        self
    }

    pub(super) fn examples(mut self, example: Value) -> Schema {
        self.0["examples"] = json!([example]);
        self
    }

    /// An object that is answered: more members may come in later versions. A name that ends in `?` may be absent.
    pub(super) fn object(members: &[(&str, Schema)]) -> Schema {
        Schema(object(members))
    }

    /// An object that is sent: a member that is not known is an error.
    pub(super) fn body(members: &[(&str, Schema)]) -> Schema {
        let mut schema = object(members);
        schema["additionalProperties"] = json!(false);
        Schema(schema)
    }

    /// An object about which nothing is said here.
    pub(super) fn free() -> Schema {
        Schema(json!({ "type": "object" }))
    }

    /// `{"items":[…],"next":…}`.
    pub(super) fn page(of: Schema) -> Schema {
        Schema::object(&[
            ("items", Schema::list(of)),
            (
                "next",
                Schema::text()
                    .or_null()
                    .about("The cursor of the next page; null at the end"),
            ),
        ])
    }
}

fn object(members: &[(&str, Schema)]) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema) in members {
        let bare = name.trim_end_matches('?');
        properties.insert(bare.to_owned(), schema.0.clone());
        if bare == *name {
            required.push(bare);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The members of an object, one a line of the reference: name, whether it is needed, its type and what it is.
pub fn members(schema: &Schema) -> Vec<(String, bool, String, String)> {
    let resolved = match schema.0.get("$ref").and_then(Value::as_str) {
        Some(name) => components()
            .get(name.rsplit('/').next().unwrap_or_default())
            .cloned()
            .unwrap_or(Value::Null),
        None => schema.0.clone(),
    };
    let required: Vec<&str> = resolved["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    resolved["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, it)| {
            let about = it["description"].as_str().unwrap_or_default().to_owned();
            (name.clone(), required.contains(&name.as_str()), kind(it), about)
        })
        .collect()
}

/// A schema's type in words.
pub fn kind_of(schema: &Schema) -> String {
    kind(&schema.0)
}

/// A type in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return words.join(" | ");
    }
    if let Some(either) = schema["anyOf"].as_array() {
        return either.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let bounds = match (&schema["minimum"], &schema["maximum"], &schema["maxLength"]) {
        (Value::Number(least), Value::Number(most), _) => format!(", {least} to {most}"),
        (_, _, Value::Number(most)) => format!(", at most {most} characters"),
        _ => String::new(),
    };
    let of_type = |name: &str| match name {
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" => format!("text{bounds}"),
        "integer" => format!("integer{bounds}"),
        "array" => format!("list of {}", kind(&schema["items"])),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => of_type(name),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().filter_map(Value::as_str).map(of_type).collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}

/// Ids have 32 hex digits behind their prefix.
pub(super) fn id(prefix: &str) -> Schema {
    Schema::matching(&format!("^{prefix}[0-9a-f]{{32}}$"))
}

/// Lowercase hex of a SHA-256.
pub(super) fn sha256() -> Schema {
    Schema::matching("^[0-9a-f]{64}$")
}

/// Methods by which a person proves who they are.
pub(super) fn methods() -> Schema {
    Schema::list(Schema::one_of(&["passkey", "biometric", "totp"]))
}

/// How a project's gate is enforced.
pub(super) fn enforcement() -> Schema {
    Schema::one_of(&[
        "merge_broker",
        "bot_approval",
        "external_status_check",
        "commit_status",
    ])
}

/// A public-key credential or its options, in the WebAuthn JSON forms.
pub(super) fn webauthn() -> Schema {
    Schema::free().about("The standard JSON form of WebAuthn")
}

/// What was asked, as a ceremony: the bytes to be signed with it.
pub(super) fn ceremony() -> Schema {
    Schema::object(&[
        ("ceremony", id("cer_")),
        ("expires_at", Schema::time()),
        (
            "intent",
            Schema::text().about("Base64 of the exact bytes that are signed"),
        ),
        ("nonce", Schema::text().about("Base64 of 32 random bytes")),
        ("publicKey", webauthn()),
    ])
}

/// The answer to a change that waits for further admins.
pub(super) fn waits() -> Schema {
    Schema::object(&[
        ("proposal", id("prp_")),
        ("status", Schema::one_of(&["waits_for_admins"])),
        ("url", Schema::text()),
    ])
}

/// The shared schemas by name.
pub fn components() -> Map<String, Value> {
    let person = || Schema::object(&[("id", id("per_")), ("name", Schema::text())]);
    let mut out = Map::new();
    let mut set = |name: &str, schema: Schema| out.insert(name.to_owned(), schema.0);
    set(
        "Problem",
        Schema::object(&[
            ("type", Schema::matching("^/problems/[a-z-]+$")),
            ("title", Schema::text()),
            ("status", Schema::integer(400, 599)),
            ("detail", Schema::text()),
            ("instance", Schema::matching("^urn:uuid:")),
            ("field?", Schema::text()),
            ("errors?", Schema::list(Schema::free())),
        ]),
    );
    let obligation = Schema::object(&[
        ("rule", Schema::text()),
        ("methods", methods()),
        ("quorum", Schema::count()),
        (
            "approved",
            Schema::count().about("How many people have filled it"),
        ),
    ]);
    let decision = Schema::object(&[
        ("approver", person()),
        ("decision", Schema::one_of(&["approve", "reject"])),
        ("method", Schema::one_of(&["passkey", "biometric", "totp"])),
        ("grade", Schema::one_of(&["approver-signed", "server-attested"])),
        ("decided_at", Schema::time()),
        ("comment", Schema::text()),
        ("credential", Schema::matching("^crd_[0-9a-f]{64}$")),
    ]);
    set(
        "Request",
        Schema::object(&[
            ("id", id("apr_")),
            ("kind", kinds()),
            ("status", statuses()),
            ("action", Schema::text()),
            ("subject", Schema::free().about("Exactly what an approver signs")),
            (
                "requested_by",
                Schema::object(&[
                    ("kind", Schema::one_of(&["person", "key", "forge_account"])),
                    ("id", Schema::text()),
                    ("name", Schema::text()),
                ]),
            ),
            ("created_at", Schema::time()),
            (
                "expires_at",
                Schema::time()
                    .or_null()
                    .about("Null: without limit. Once approved, the end of its use"),
            ),
            ("decided_at?", Schema::time()),
            ("consumed_at?", Schema::time().about("When the approval was used")),
            ("ended_because?", Schema::text()),
            ("environment", Schema::text().or_null()),
            ("project", Schema::text().or_null()),
            ("obligations", Schema::list(obligation)),
            ("decisions", Schema::list(decision)),
            (
                "claimed",
                Schema::free().about("The caller's metadata: nobody checked it, and it decides nothing"),
            ),
            (
                "verified?",
                Schema::free()
                    .or_null()
                    .about("What was read from a forge about the commit; null until it was"),
            ),
            (
                "callback?",
                Schema::free().about("How the callback stands: owed, delivered or failed"),
            ),
            ("match_code?", Schema::matching("^[0-9]{2}$")),
            ("deployment?", Schema::free()),
            ("unsatisfiable?", Schema::list(Schema::free())),
            ("notes?", Schema::list(Schema::text())),
            ("url", Schema::text()),
        ]),
    );
    set(
        "Opened",
        Schema::object(&[
            ("match_code?", Schema::matching("^[0-9]{2}$")),
            ("id", id("apr_")),
            ("status", statuses()),
            ("expires_at", Schema::time().or_null()),
            ("url", Schema::text()),
        ]),
    );
    set(
        "Person",
        Schema::object(&[
            ("id", id("per_")),
            ("name", Schema::text()),
            ("email", Schema::text()),
            ("roles", roles()),
            ("active", Schema::boolean()),
            ("enrolled", Schema::boolean()),
            ("passkeys", Schema::count()),
            (
                "accounts",
                Schema::list(Schema::object(&[
                    ("integration", id("int_")),
                    ("account_id", Schema::text()),
                    ("proof", Schema::one_of(&["asserted", "proven"])),
                ])),
            ),
            ("created_at", Schema::time()),
        ]),
    );
    set(
        "Passkey",
        Schema::object(&[
            ("id", Schema::text()),
            ("label", Schema::text()),
            ("platform", Schema::boolean()),
            ("aaguid", Schema::text()),
            ("backup_eligible", Schema::boolean()),
            ("added_at", Schema::time()),
            ("decides_from", Schema::time()),
        ]),
    );
    set(
        "SignedIn",
        Schema::object(&[(
            "person",
            Schema::object(&[("id", id("per_")), ("name", Schema::text()), ("roles", roles())]),
        )]),
    );
    set(
        "Project",
        Schema::object(&[
            ("id", id("prj_")),
            ("integration", id("int_")),
            ("project_id", Schema::any()),
            ("path", Schema::text()),
            ("web_url", Schema::text()),
            ("branch_patterns", Schema::list(Schema::text())),
            ("required_approval_count", Schema::count()),
            ("auto_merge", Schema::boolean()),
            ("gate", Schema::named("Gate")),
        ]),
    );
    set(
        "Gate",
        Schema::object(&[
            ("strength", Schema::one_of(&["hard", "soft", "none"])),
            ("reasons", Schema::list(Schema::text())),
            ("findings", Schema::list(Schema::free())),
            ("checked_at", Schema::time().or_null()),
        ]),
    );
    set(
        "Proposal",
        Schema::object(&[
            ("id", id("prp_")),
            ("state", Schema::one_of(&["open", "carried_out", "withdrawn"])),
            ("change", Schema::free()),
            ("reason", Schema::text()),
            ("quorum", Schema::count()),
            ("admins", Schema::count()),
            ("confirmations", Schema::list(Schema::free())),
            ("created_at", Schema::time()),
            ("closed_at", Schema::time().or_null()),
        ]),
    );
    set(
        "Entry",
        Schema::object(&[
            ("v", Schema::count()),
            ("seq", Schema::count()),
            ("time", Schema::time()),
            ("type", Schema::text()),
            ("actor", Schema::free()),
            ("object", Schema::free()),
            ("data", Schema::free()),
        ]),
    );
    out
}

/// Kinds of request.
pub(super) fn kinds() -> Schema {
    Schema::one_of(&["change", "deployment", "action"])
}

/// Where a request stands.
pub(super) fn statuses() -> Schema {
    Schema::one_of(&[
        "pending",
        "approved",
        "rejected",
        "expired",
        "cancelled",
        "superseded",
        "skipped",
    ])
}

/// Roles of a person.
pub(super) fn roles() -> Schema {
    Schema::list(Schema::one_of(&["admin", "approver", "auditor"]))
}
