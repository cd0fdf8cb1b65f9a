//! What the fake GitHub remembers.

use crate::support::forge::description::Document;
use crate::support::forge::github::installed;
use crate::support::forge::gitlab::repository::{Objects, Sha};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The App's number and the number of the account it acts as.
pub const APP: u64 = 4711;
pub const BOT: u64 = 90_001;
pub const SLUG: &str = "gate";

#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub login: String,
    pub name: String,
    pub email: String,
    /// What the account wrote about itself.
    pub bio: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Installation {
    pub id: u64,
    pub account: String,
    pub suspended: bool,
    pub repositories: Vec<u64>,
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub installation: u64,
    pub secret: String,
    pub ends: Timestamp,
    pub revoked: bool,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub id: u64,
    pub state: String,
    pub context: String,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub creator: u64,
    pub at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub number: u64,
    pub id: u64,
    pub title: String,
    pub author: u64,
    /// The repository the source branch is in.
    pub source: u64,
    pub head_ref: String,
    pub head: Sha,
    pub base_ref: String,
    /// The target's tip when the pull request was last touched by a push.
    pub base: Sha,
    pub closed: bool,
    pub draft: bool,
    pub merged: Option<(Timestamp, u64, Sha)>,
    pub updated: Timestamp,
}

/// A move of a branch.
#[derive(Clone, Debug)]
pub struct Activity {
    pub kind: &'static str,
    pub reference: String,
    pub before: Sha,
    pub after: Sha,
    pub actor: u64,
    pub at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Ruleset {
    pub id: u64,
    pub name: String,
    /// Branches by name.
    pub branches: Vec<String>,
    /// The rules as GitHub writes them.
    pub rules: Vec<Value>,
    pub bypass: Vec<Value>,
}

/// Required checks (context, App), and whether administrators are included.
pub type Classic = (Vec<(String, Option<i64>)>, bool);

#[derive(Clone, Debug)]
pub struct Repository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub branches: BTreeMap<String, Sha>,
    pub pulls: BTreeMap<u64, Pull>,
    pub statuses: BTreeMap<Sha, Vec<Status>>,
    pub activity: Vec<Activity>,
    pub rulesets: Vec<Ruleset>,
    /// Classic protection by branch.
    pub classic: BTreeMap<String, Classic>,
    pub merge_commits: bool,
    pub squash: bool,
    pub rebase: bool,
    /// The merge queue of a branch: (pull request, group commit).
    pub queue: BTreeMap<String, Vec<(u64, Sha)>>,
    /// So many files are counted of every pull request, and 3,000 listed at most.
    pub counted_files: Option<u64>,
    pub forked_from: Option<u64>,
    pub deploys: Vec<crate::support::forge::github::deploys::Deploy>,
    pub environments: Vec<crate::support::forge::github::deploys::Environment>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    pub status: u16,
}

#[derive(Clone, Debug)]
pub struct Fault {
    pub method: String,
    pub path: String,
    pub left: usize,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: u64,
    pub guid: String,
    pub event: String,
    pub repository: u64,
    pub payload: Value,
    /// 0: not sent yet, or no answer.
    pub status: u16,
    pub redelivery: bool,
}

pub struct State {
    pub base_url: String,
    pub key: KeyPair,
    pub public_key: Vec<u8>,
    pub hook_url: Option<String>,
    pub hook_secret: String,
    /// Webhooks are not sent.
    pub silent: bool,
    pub users: BTreeMap<u64, User>,
    pub installations: BTreeMap<u64, Installation>,
    pub tokens: Vec<Token>,
    /// People's own tokens.
    pub personal: BTreeMap<String, u64>,
    pub repositories: BTreeMap<u64, Repository>,
    pub objects: Objects,
    pub calls: Vec<Call>,
    pub faults: Vec<Fault>,
    pub deliveries: Vec<Delivery>,
    pub raised: Vec<u64>,
    pub violations: Vec<String>,
    /// GitHub's own description of its API, where it is installed.
    pub document: Option<Arc<Document>>,
    /// Codes of Apps that a person has just made.
    pub codes: Vec<String>,
    next: u64,
}

impl State {
    pub fn new(base_url: &str) -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public_key = key.public_key().as_ref().to_vec();
        let bot = User {
            id: BOT,
            login: format!("{SLUG}[bot]"),
            name: String::new(),
            email: String::new(),
            bio: None,
        };
        State {
            base_url: base_url.to_owned(),
            key,
            public_key,
            hook_url: None,
            hook_secret: String::new(),
            silent: false,
            users: BTreeMap::from([(BOT, bot)]),
            installations: BTreeMap::new(),
            tokens: Vec::new(),
            personal: BTreeMap::new(),
            repositories: BTreeMap::new(),
            objects: Objects::default(),
            calls: Vec::new(),
            faults: Vec::new(),
            deliveries: Vec::new(),
            raised: Vec::new(),
            violations: Vec::new(),
            document: installed(),
            codes: Vec::new(),
            next: 1000,
        }
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The App's private key, as a file.
    pub fn private_key(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().expect("PKCS#8");
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|it| std::str::from_utf8(it).expect("base64"))
            .collect();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        )
    }

    pub fn repository(&self, id: u64) -> &Repository {
        self.repositories.get(&id).expect("a repository of this fake")
    }

    pub fn repository_mut(&mut self, id: u64) -> &mut Repository {
        self.repositories.get_mut(&id).expect("a repository of this fake")
    }

    pub fn named(&self, owner: &str, name: &str) -> Option<u64> {
        let mut all = self.repositories.values();
        all.find(|it| it.owner.eq_ignore_ascii_case(owner) && it.name.eq_ignore_ascii_case(name))
            .map(|it| it.id)
    }

    /// The newest status of each context.
    pub fn newest(&self, repository: u64, sha: &str) -> BTreeMap<String, Status> {
        let mut found = BTreeMap::new();
        for it in self
            .repository(repository)
            .statuses
            .get(sha)
            .into_iter()
            .flatten()
        {
            found.insert(it.context.to_ascii_lowercase(), it.clone());
        }
        found
    }
}
