//! A person with a phone: name, authenticator, session. Every flow goes through the public HTTP API as the pages do,
//! and the person checks what a careful phone would check before it signs. Nothing here trusts the server.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::Digest as _;
use sha2::Sha256;

use crate::support::appliance::Answer;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::authenticator::Authenticator;
use crate::support::authenticator::Lie;
use crate::support::authenticator::Passkey;
use crate::support::authenticator::Totp;

/// A human being at a browser of their own. All calls take `&self`, so that several can run at the same time.
pub struct Person {
    /// The name given at enrolment.
    pub name: String,
    /// The mail address given at enrolment.
    pub email: String,
    origin: String,
    api: Api,
    account: Mutex<Account>,
    cookies: Mutex<BTreeMap<String, String>>,
    authenticator: Mutex<Authenticator>,
}

/// What the appliance told of the person at enrolment.
#[derive(Clone, Default)]
struct Account {
    id: String,
    roles: Vec<String>,
}

/// The server's half of a decision, checked as a careful phone would.
#[derive(Clone, Debug)]
pub struct DecisionOptions {
    /// The request it is about.
    pub request: String,
    /// The ceremony's id.
    pub ceremony: String,
    /// When the ceremony ends, RFC 3339.
    pub expires_at: String,
    /// The intent's exact bytes.
    pub intent: Vec<u8>,
    /// The 32-byte nonce.
    pub nonce: Vec<u8>,
    /// `PublicKeyCredentialRequestOptionsJSON`.
    pub public_key: Value,
}

/// A decision that is signed but not yet sent.
#[derive(Clone, Debug)]
pub struct SignedDecision {
    /// The request it will be sent to. A test may send it elsewhere.
    pub request: String,
    /// The body, `{"ceremony","credential"}`.
    pub body: Value,
}

/// A key for machines, as shown once.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// The secret `sa_…`.
    pub key: String,
}

/// A connected forge, as shown once.
#[derive(Clone, Debug)]
pub struct Integration {
    /// Its id.
    pub id: String,
    /// Where the forge sends its webhooks.
    pub webhook_url: String,
    /// What the webhooks are signed with. Empty where the caller brought it (GitHub).
    pub webhook_secret: String,
}

impl Person {
    /// A person who is not yet known to the appliance, with a device-bound authenticator.
    pub fn new(appliance: &Appliance, name: &str) -> Person {
        Person {
            name: name.to_owned(),
            email: format!("{}@example.test", name.to_lowercase().replace(' ', ".")),
            origin: appliance.origin(),
            api: appliance.api(),
            account: Mutex::default(),
            cookies: Mutex::default(),
            authenticator: Mutex::new(Authenticator::device_bound(&appliance.origin())),
        }
    }

    /// Claims the set-up token found on the host: the first person, admin and approver. Panics if refused.
    pub async fn set_up(appliance: &Appliance, name: &str) -> Person {
        let person = Person::new(appliance, name);
        person.claim(&appliance.setup_url()).await.expect(201);
        person
    }

    /// Accepts an invitation. Panics if refused.
    pub async fn enrol(appliance: &Appliance, name: &str, invitation_url: &str) -> Person {
        let person = Person::new(appliance, name);
        person.claim(invitation_url).await.expect(201);
        person
    }

    /// Uses a set-up or invitation URL with a new passkey. The answer is the first refusal, or the 201.
    pub async fn claim(&self, url: &str) -> Answer {
        self.claim_lying(url, &[]).await
    }

    /// As [`Self::claim`], with lies.
    pub async fn claim_lying(&self, url: &str, lies: &[Lie]) -> Answer {
        let (page, token) = url
            .split_once('#')
            .unwrap_or_else(|| panic!("no token in the fragment of {url:?}"));
        assert!(
            !token.is_empty() && !token.contains('='),
            "the fragment is not the bare token: {url:?}"
        );
        let mut body = json!({"token": token});
        if page.ends_with("/setup") {
            body["name"] = json!(self.name);
            body["email"] = json!(self.email);
        } else {
            assert!(page.ends_with("/enrol"), "neither /setup nor /enrol: {url:?}");
        }
        let options = self.post("/api/v1/enrolment/options", &body).await;
        if options.status != 200 {
            return options;
        }
        let credential = self
            .authenticator()
            .create_lying(&options.json()["publicKey"], lies);
        let credential = credential.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        let body =
            json!({"token": token, "credential": credential, "label": format!("{}'s phone", self.name)});
        let answer = self.post("/api/v1/enrolment", &body).await;
        if answer.status == 201 {
            let person = &answer.json()["person"];
            *self.account.lock().expect("no holder panics") = Account {
                id: text(person, "id"),
                roles: person["roles"]
                    .as_array()
                    .expect("roles")
                    .iter()
                    .map(text_of)
                    .collect(),
            };
            assert!(
                self.session_cookie().is_some(),
                "an enrolment starts a session: {:?}",
                answer.headers
            );
        }
        answer
    }

    /// The id `per_…`. Panics before the enrolment.
    pub fn id(&self) -> String {
        let id = self.account.lock().expect("no holder panics").id.clone();
        assert!(!id.is_empty(), "{} is not enrolled", self.name);
        id
    }

    /// The roles told at enrolment.
    pub fn roles(&self) -> Vec<String> {
        self.account.lock().expect("no holder panics").roles.clone()
    }

    /// The authenticator, to look at or to tamper with. Do not hold it across an `.await`.
    pub fn authenticator(&self) -> MutexGuard<'_, Authenticator> {
        self.authenticator.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A copy of the newest passkey.
    pub fn passkey(&self) -> Passkey {
        self.authenticator().passkey().clone()
    }

    // ---- session ----

    /// Signs in with the newest passkey. Panics if refused.
    pub async fn sign_in(&self) {
        self.try_sign_in(&[]).await.expect(200);
    }

    /// Signs in with lies; the answer is the first refusal, or the 200.
    pub async fn try_sign_in(&self, lies: &[Lie]) -> Answer {
        let options = self.post("/api/v1/session/options", &json!({})).await;
        if options.status != 200 {
            return options;
        }
        let options = options.json();
        let credential = self.authenticator().get_lying(&options["publicKey"], lies);
        let credential = credential.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        self.post(
            "/api/v1/session",
            &json!({"ceremony": text(&options, "ceremony"), "credential": credential}),
        )
        .await
    }

    /// Ends the session. Panics if refused.
    pub async fn sign_out(&self) {
        let answer = self.delete("/api/v1/session").await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }

    /// The `Cookie` header as the browser would send it; none without cookies.
    pub fn session_cookie(&self) -> Option<String> {
        let cookies = self.cookies.lock().expect("no holder panics");
        let pairs: Vec<String> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if pairs.is_empty() {
            None
        } else {
            Some(pairs.join("; "))
        }
    }

    /// Sets the cookies by the text of a `Cookie` header, as a thief or a fixing attacker would.
    pub fn set_session_cookie(&self, header: &str) {
        let pairs = header.split("; ").filter_map(|it| it.split_once('='));
        *self.cookies.lock().expect("no holder panics") = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    }

    // ---- calls with the session, as this origin's pages make them ----

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body)).await
    }

    /// PUT of a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body)).await
    }

    /// PATCH of a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    /// Any call with the session; state-changing ones carry the origin's own `Origin`. Cookies are kept as told.
    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let origin = self.origin.clone();
        let headers: Vec<(&str, &str)> = if method == "GET" {
            Vec::new()
        } else {
            vec![("origin", &origin)]
        };
        self.send_with(method, path, &headers, body).await
    }

    /// Any call with the session cookie and only these headers, for instance a foreign `Origin` or none.
    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        self.send_bytes(method, path, headers, body.map(|it| it.to_string().into_bytes()))
            .await
    }

    /// As [`Self::send_with`], with a body as it is. Where the call needs a passkey it is put under it, as the pages do.
    pub async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let answer = self.send_bare(method, path, headers, body.clone()).await;
        if answer.status != 403 || !answer.text().contains("\"/problems/passkey-needed\"") {
            return answer;
        }
        let word = match self.confirm(method, path, headers, body.as_deref(), &[]).await {
            Ok(word) => word,
            Err(refused) => return refused,
        };
        let all = [headers, &[("x-confirmation", word.as_str())]].concat();
        self.send_bare(method, path, &all, body).await
    }

    /// Puts the passkey under one call: the word that it is sent with, or the refusal.
    pub async fn confirm(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        lies: &[Lie],
    ) -> Result<String, Answer> {
        let stated = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("x-reason"));
        // Where a test says nothing, the client does (`Api::response`).
        let reason = reason_of(stated.map_or("a test", |(_, value)| value));
        let digest = hex::encode(Sha256::digest(body.unwrap_or_default()));
        let call = json!({"method": method, "path": path, "body_sha256": digest, "reason": reason});
        let own = [("origin", self.origin.as_str())];
        let send = async |path: &str, body: &Value| {
            let body = Some(body.to_string().into_bytes());
            self.send_bare("POST", path, &own, body).await
        };
        let base = "/api/v1/me/confirmations";
        let options = send(&format!("{base}/options"), &call).await;
        if options.status != 200 {
            return Err(options);
        }
        let options = options.json();
        let intent = STANDARD.decode(text(&options, "intent")).expect("base64");
        let said: Value = serde_json::from_slice(&intent).expect("JSON");
        for it in ["method", "path", "body_sha256", "reason"] {
            assert_eq!(said[it], call[it], "{it} of {said}");
        }
        let nonce = STANDARD.decode(text(&options, "nonce")).expect("base64");
        let challenge = URL_SAFE_NO_PAD.encode(expected_challenge(&nonce, &intent));
        assert_eq!(options["publicKey"]["challenge"], json!(challenge));
        let credential = self.authenticator().get_lying(&options["publicKey"], lies);
        let credential = credential.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        let body = json!({"ceremony": options["ceremony"], "credential": credential});
        let answer = send(base, &body).await;
        match answer.status {
            200 => Ok(text(&answer.json(), "confirmation")),
            _ => Err(answer),
        }
    }

    /// As [`Self::send_bytes`], by the session alone.
    pub async fn send_bare(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let cookie = self.session_cookie();
        let mut all = headers.to_vec();
        if let Some(cookie) = &cookie {
            all.push(("cookie", cookie));
        }
        if body.is_some()
            && !all
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            all.push(("content-type", "application/json"));
        }
        let answer = self.api.send(method, path, &all, body).await;
        self.keep_cookies(&answer);
        answer
    }

    /// Opens a stream with the session, for instance `/api/v1/inbox/events`. Panics unless it answers 200.
    pub async fn stream(&self, path: &str) -> reqwest::Response {
        let cookie = self.session_cookie().unwrap_or_default();
        let response = self.api.response("GET", path, &[("cookie", &cookie)], None).await;
        let response = response.unwrap_or_else(|e| panic!("GET {path}: {e:?}"));
        assert_eq!(response.status().as_u16(), 200, "GET {path}");
        response
    }

    fn keep_cookies(&self, answer: &Answer) {
        let mut cookies = self.cookies.lock().expect("no holder panics");
        for header in answer.headers.get_all("set-cookie") {
            let header = header.to_str().expect("a cookie is visible ASCII");
            let mut parts = header.split(';').map(str::trim);
            let (name, value) = parts
                .next()
                .and_then(|it| it.split_once('='))
                .expect("a cookie has a name");
            // Removal as browsers see it: Max-Age of 0 or less, or a date long gone.
            let removed = parts.filter_map(|it| it.split_once('=')).any(|(key, value)| {
                (key.eq_ignore_ascii_case("max-age") && (value.starts_with('-') || value == "0"))
                    || (key.eq_ignore_ascii_case("expires") && value.contains(" 1970 "))
            });
            if removed {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    // ---- decisions ----

    /// The requests this person may decide.
    pub async fn inbox(&self) -> Vec<Value> {
        items(&self.get("/api/v1/inbox").await)
    }

    /// Whether a request stands in the inbox.
    pub async fn has_in_inbox(&self, request: &str) -> bool {
        self.inbox().await.iter().any(|it| it["id"] == request)
    }

    /// Decides `"approve"` or `"reject"` by passkey; the answer is the first refusal, or the 200.
    pub async fn decide(&self, request: &str, decision: &str, comment: Option<&str>) -> Answer {
        self.decide_lying(request, decision, comment, &[]).await
    }

    /// As [`Self::decide`], with lies.
    pub async fn decide_lying(
        &self,
        request: &str,
        decision: &str,
        comment: Option<&str>,
        lies: &[Lie],
    ) -> Answer {
        match self.decision_options(request, decision, comment).await {
            Ok(options) => self.finish_decision(&self.sign_decision(&options, lies)).await,
            Err(answer) => answer,
        }
    }

    /// Approves, and gives the credential's id. Panics if refused.
    pub async fn approve(&self, request: &str) -> String {
        text(
            &self.decide(request, "approve", None).await.expect(200),
            "credential",
        )
    }

    /// Rejects, and gives the credential's id. Panics if refused.
    pub async fn reject(&self, request: &str, comment: &str) -> String {
        text(
            &self.decide(request, "reject", Some(comment)).await.expect(200),
            "credential",
        )
    }

    /// Starts a decision and signs it, for races: [`Self::finish_decision`] is then one HTTP call.
    pub async fn begin_decision(
        &self,
        request: &str,
        decision: &str,
        comment: Option<&str>,
    ) -> Result<SignedDecision, Answer> {
        let options = self.decision_options(request, decision, comment).await?;
        Ok(self.sign_decision(&options, &[]))
    }

    /// Sends a signed decision; may be called again with the same bytes.
    pub async fn finish_decision(&self, signed: &SignedDecision) -> Answer {
        self.post(
            &format!("/api/v1/approvals/{}/decision", signed.request),
            &signed.body,
        )
        .await
    }

    /// The server's half of a decision, after these checks: the challenge binds nonce and intent, and the intent says
    /// what this person was asked to sign. Panics where a careful phone would refuse to sign.
    pub async fn decision_options(
        &self,
        request: &str,
        decision: &str,
        comment: Option<&str>,
    ) -> Result<DecisionOptions, Answer> {
        let mut body = json!({"decision": decision});
        if let Some(comment) = comment {
            body["comment"] = json!(comment);
        }
        let answer = self
            .post(&format!("/api/v1/approvals/{request}/decision/options"), &body)
            .await;
        if answer.status != 200 {
            return Err(answer);
        }
        let answer = answer.json();
        let std_base64 = |name: &str| {
            STANDARD
                .decode(text(&answer, name))
                .expect("standard base64 with padding")
        };
        let options = DecisionOptions {
            request: request.to_owned(),
            ceremony: text(&answer, "ceremony"),
            expires_at: text(&answer, "expires_at"),
            intent: std_base64("intent"),
            nonce: std_base64("nonce"),
            public_key: answer["publicKey"].clone(),
        };
        self.check_options(&options, decision, comment);
        Ok(options)
    }

    /// Signs the options as they stand, with lies.
    pub fn sign_decision(&self, options: &DecisionOptions, lies: &[Lie]) -> SignedDecision {
        let credential = self.authenticator().get_lying(&options.public_key, lies);
        let credential = credential.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        SignedDecision {
            request: options.request.clone(),
            body: json!({"ceremony": options.ceremony, "credential": credential}),
        }
    }

    fn check_options(&self, options: &DecisionOptions, decision: &str, comment: Option<&str>) {
        assert_eq!(options.nonce.len(), 32, "the nonce is 32 bytes");
        let challenge = URL_SAFE_NO_PAD.decode(text(&options.public_key, "challenge"));
        let challenge = challenge.expect("the challenge is base64url without padding");
        assert_eq!(
            challenge,
            expected_challenge(&options.nonce, &options.intent),
            "the challenge binds the intent"
        );
        assert_eq!(
            options.public_key["userVerification"], "required",
            "user verification is always required"
        );

        let intent: Value = serde_json::from_slice(&options.intent).expect("the intent is JSON");
        let meaning = if decision == "approve" {
            "approval"
        } else {
            "rejection"
        };
        let expected = [
            ("v", json!(1)),
            ("type", json!("signedapproval/intent")),
            ("request", json!(options.request)),
            ("decision", json!(decision)),
            ("meaning", json!(meaning)),
            ("person", json!(self.id())),
            ("person_name", json!(self.name)),
        ];
        for (member, value) in expected {
            assert_eq!(intent[member], value, "`{member}` of the intent {intent}");
        }
        if let Some(comment) = comment {
            assert_eq!(intent["comment"], comment, "the comment of the intent {intent}");
        }
        let subject = subject_bytes(&options.intent);
        let digest = hex::encode(Sha256::digest(subject.as_bytes()));
        assert_eq!(
            intent["subject_sha256"], digest,
            "subject_sha256 is over the subject's bytes as they stand"
        );
    }

    // ---- TOTP and further passkeys ----

    /// Enrols a TOTP app. Panics if refused.
    pub async fn enrol_totp(&self) -> Totp {
        let answer = self.set_up_totp().await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        let totp = Totp::from_otpauth_url(&text(&answer.json(), "otpauth_url"));
        let answer = self
            .post("/api/v1/me/totp/confirm", &json!({"code": totp.code()}))
            .await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        totp
    }

    /// Asks for a TOTP secret, allowed by a passkey.
    pub async fn set_up_totp(&self) -> Answer {
        let options = self.post("/api/v1/me/totp/options", &json!({})).await.expect(200);
        let credential = self.authenticator().get(&options["publicKey"]);
        let credential = credential.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        let body = json!({"ceremony": text(&options, "ceremony"), "credential": credential});
        self.post("/api/v1/me/totp", &body).await
    }

    /// Decides by a TOTP code.
    pub async fn decide_by_totp(
        &self,
        request: &str,
        decision: &str,
        code: &str,
        comment: Option<&str>,
    ) -> Answer {
        let mut body = json!({"decision": decision, "totp": code});
        if let Some(comment) = comment {
            body["comment"] = json!(comment);
        }
        self.post(&format!("/api/v1/approvals/{request}/decision"), &body)
            .await
    }

    /// Adds a passkey made by another device, confirmed by one of this person's own. The answer is the first refusal,
    /// or the success, after which this person's authenticator holds the new passkey too.
    pub async fn add_passkey(&self, device: &mut Authenticator, label: &str) -> Answer {
        let options = self
            .post("/api/v1/me/passkeys/options", &json!({"label": label}))
            .await;
        if options.status != 200 {
            return options;
        }
        let options = options.json();
        let confirm = self.authenticator().get(&options["confirm"]);
        let confirm = confirm.unwrap_or_else(|e| panic!("{}'s authenticator declines: {e}", self.name));
        let created = device.create(&options["publicKey"]);
        let created = created.unwrap_or_else(|e| panic!("{}'s other device declines: {e}", self.name));
        let body = json!({"ceremony": text(&options, "ceremony"), "confirm": confirm, "credential": created});
        let answer = self.post("/api/v1/me/passkeys", &body).await;
        if (200..300).contains(&answer.status) {
            self.authenticator().import(device.passkey().clone());
        }
        answer
    }

    // ---- administration ----

    /// Invites a person, and gives the answer's body, with `invite_url`. Panics if refused.
    pub async fn invite(&self, name: &str, roles: &[&str]) -> Value {
        let email = format!("{}@example.test", name.to_lowercase().replace(' ', "."));
        let invited = self
            .post(
                "/api/v1/people",
                &json!({"name": name, "email": email, "roles": roles}),
            )
            .await
            .expect(201);
        assert!(invited["invite_url"].is_string(), "{invited}");
        invited
    }

    /// Invites a person who enrols at once. Panics if refused.
    pub async fn bring_in(&self, appliance: &Appliance, name: &str, roles: &[&str]) -> Person {
        let invited = self.invite(name, roles).await;
        Person::enrol(appliance, name, &text(&invited, "invite_url")).await
    }

    /// Creates an API key. No projects: for all that its owner may see. Panics if refused.
    pub async fn create_api_key(&self, name: &str, scopes: &[&str], projects: &[&str]) -> ApiKey {
        let mut body = json!({"name": name, "scopes": scopes});
        if !projects.is_empty() {
            body["projects"] = json!(projects);
        }
        let created = self.post("/api/v1/api-keys", &body).await.expect(201);
        let key = text(&created, "key");
        assert!(key.starts_with("sa_"), "a key begins with sa_");
        ApiKey {
            id: text(&created, "id"),
            key,
        }
    }

    /// Connects a forge: `{"kind","name","base_url",…}`. Panics if refused.
    pub async fn connect(&self, integration: &Value) -> Integration {
        let created = self.post("/api/v1/integrations", integration).await.expect(201);
        Integration {
            id: text(&created, "id"),
            webhook_url: text(&created, "webhook_url"),
            webhook_secret: created["webhook_secret"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Gates a project with the forge's own form of settings, and gives the answer's body. Panics if refused.
    pub async fn gate_project(&self, integration: &Integration, settings: &Value) -> Value {
        self.post(
            &format!("/api/v1/integrations/{}/projects", integration.id),
            settings,
        )
        .await
        .expect(201)
    }

    /// Links a person's forge account by its numeric id. Panics if refused.
    pub async fn link_account(&self, person: &Person, integration: &Integration, account_id: &str) -> Value {
        let answer = self
            .try_link_account(&person.id(), &integration.id, account_id)
            .await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }

    /// As [`Self::link_account`], for links that must be refused.
    pub async fn try_link_account(&self, person: &str, integration: &str, account_id: &str) -> Answer {
        let body = json!({"integration": integration, "account_id": account_id});
        self.post(&format!("/api/v1/people/{person}/accounts"), &body)
            .await
    }

    /// Creates a group, and gives the answer's body. Panics if refused.
    pub async fn create_group(&self, name: &str, members: &[&Person]) -> Value {
        let members: Vec<String> = members.iter().map(|it| it.id()).collect();
        self.post("/api/v1/groups", &json!({"name": name, "members": members}))
            .await
            .expect(201)
    }

    /// Sets a policy. Panics if refused.
    pub async fn put_policy(&self, name: &str, document: &Value) -> Value {
        let answer = self.put(&format!("/api/v1/policies/{name}"), document).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }

    /// All events of one type (of all types for `""`), page by page, as admins and auditors see it.
    pub async fn journal(&self, kind: &str) -> Vec<Value> {
        let query = if kind.is_empty() {
            String::new()
        } else {
            format!("type={kind}&")
        };
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let answer = self
                .get(&format!("/api/v1/journal?{query}limit=100{after}"))
                .await
                .expect(200);
            events.extend(
                answer["items"]
                    .as_array()
                    .expect("a list has items")
                    .iter()
                    .cloned(),
            );
            match answer["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return events,
            }
        }
    }
}

/// `SHA-256("signedapproval/webauthn-challenge/v1" || 0x00 || nonce || SHA-256(intent))`, the rule of the evidence
/// format, written here a second time.
pub fn expected_challenge(nonce: &[u8], intent: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(b"signedapproval/webauthn-challenge/v1\0");
    hash.update(nonce);
    hash.update(Sha256::digest(intent));
    hash.finalize().to_vec()
}

/// The exact bytes of the `subject` member's value as they stand in an intent.
pub fn subject_bytes(intent: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Intent<'a> {
        #[serde(borrow)]
        subject: &'a RawValue,
    }
    let intent: Intent = serde_json::from_slice(intent).expect("the intent has a subject");
    intent.subject.get().to_owned()
}

/// The `items` of one page of a list. Panics unless it answers 200.
#[track_caller]
pub fn items(answer: &Answer) -> Vec<Value> {
    let page = answer.expect(200);
    page["items"]
        .as_array()
        .unwrap_or_else(|| panic!("a list has items: {page}"))
        .clone()
}

/// A text member that must be there and not be empty.
#[track_caller]
pub fn text(object: &Value, member: &str) -> String {
    let text = object[member]
        .as_str()
        .unwrap_or_else(|| panic!("`{member}` is not text in {object}"));
    assert!(!text.is_empty(), "`{member}` is empty in {object}");
    text.to_owned()
}

/// The reason in a header, as RFC 8187 may write it.
fn reason_of(header: &str) -> String {
    let Some(coded) = header.strip_prefix("UTF-8\'\'") else {
        return header.trim().to_owned();
    };
    let plain = coded.replace('+', "%2B");
    let mut parts = url::form_urlencoded::parse(plain.as_bytes());
    parts
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not text: {value}"))
        .to_owned()
}
