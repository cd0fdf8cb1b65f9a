//! What the fake Bitbucket Data Center remembers.

use crate::support::forge::bitbucket_data_center::validator;
use crate::support::forge::description::Document;
use crate::support::forge::gitlab::repository::{NewCommit, Objects, Sha};
use crate::support::forge::host::Outgoing;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What somebody, or a token, may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    Read,
    Write,
    Admin,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub name: String,
    pub display: String,
    /// Empty for the account behind a project's or repository's token.
    pub email: String,
    pub service: bool,
}

/// An HTTP access token.
#[derive(Clone, Debug)]
pub struct Token {
    pub user: u64,
    pub access: Access,
    pub revoked: bool,
}

/// Something that happened to a pull request.
#[derive(Clone, Debug)]
pub struct Activity {
    pub id: u64,
    pub action: &'static str,
    pub user: u64,
    pub at: Timestamp,
    pub more: Value,
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub id: u64,
    pub version: i64,
    pub title: String,
    pub author: u64,
    /// The repository the source branch is in.
    pub source: u64,
    pub from_ref: String,
    pub head: Sha,
    pub to_ref: String,
    /// Where the target branch stands, or stood when it ended.
    pub tip: Sha,
    pub state: &'static str,
    pub draft: bool,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub closed: Option<Timestamp>,
    /// The commit it landed as; a fast-forward makes none.
    pub merge_commit: Option<Sha>,
    pub activities: Vec<Activity>,
}

#[derive(Clone, Debug)]
pub struct Build {
    pub key: String,
    pub parent: Option<String>,
    pub name: Option<String>,
    pub state: String,
    pub url: String,
    pub description: Option<String>,
    pub reference: Option<String>,
    pub at: Timestamp,
}

/// A move of a branch.
#[derive(Clone, Debug)]
pub struct Move {
    pub id: u64,
    pub reference: String,
    pub from: Sha,
    pub to: Sha,
    pub kind: &'static str,
    pub by: u64,
    pub at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub url: String,
    pub secret: Option<String>,
    pub events: Vec<String>,
    pub active: bool,
}

#[derive(Clone, Debug)]
pub struct Repository {
    pub id: u64,
    pub key: String,
    pub slug: String,
    pub branches: BTreeMap<String, Sha>,
    /// When each moved last.
    pub moved: BTreeMap<String, Timestamp>,
    pub pulls: BTreeMap<u64, Pull>,
    pub builds: BTreeMap<Sha, BTreeMap<String, Build>>,
    pub moves: Vec<Move>,
    /// As Bitbucket writes them.
    pub restrictions: Vec<Value>,
    pub conditions: Vec<Value>,
    pub members: BTreeMap<u64, Access>,
    pub hooks: Vec<Hook>,
    /// The default way of merging: `no-ff`, `ff-only`, `squash`, `rebase-no-ff` or `rebase-ff-only`.
    pub strategy: &'static str,
    pub settings: Value,
    pub forked_from: Option<u64>,
    /// Where the merge queue has prepared what: branch, pull request.
    pub queue: Vec<(String, u64)>,
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

pub struct State {
    pub base_url: String,
    pub version: String,
    pub users: BTreeMap<u64, User>,
    pub tokens: BTreeMap<String, Token>,
    pub repositories: BTreeMap<u64, Repository>,
    pub objects: Objects,
    pub calls: Vec<Call>,
    pub faults: Vec<Fault>,
    pub raised: Vec<Outgoing>,
    pub violations: Vec<String>,
    /// Bitbucket's own description of its API, where it is there.
    pub document: Option<Arc<Document>>,
    /// No webhook is sent.
    pub silent: bool,
    /// Entries of a page at most.
    pub page_max: usize,
    /// Right before the next merge of that pull request somebody pushes this.
    pub race: Option<(u64, u64, NewCommit)>,
    /// Entries of a list of changed files at most; what is beyond is not told.
    pub changes_max: Option<usize>,
    next: u64,
}

impl State {
    pub fn new(base_url: &str) -> Self {
        State {
            // Below a path, as behind many a proxy.
            base_url: format!("{base_url}/bitbucket"),
            version: "9.4.1".to_owned(),
            users: BTreeMap::new(),
            tokens: BTreeMap::new(),
            repositories: BTreeMap::new(),
            objects: Objects::default(),
            calls: Vec::new(),
            faults: Vec::new(),
            raised: Vec::new(),
            violations: Vec::new(),
            document: validator::present(),
            silent: false,
            page_max: 1000,
            race: None,
            changes_max: None,
            next: 1000,
        }
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn repository(&self, id: u64) -> &Repository {
        self.repositories.get(&id).expect("a repository of this fake")
    }

    pub fn repository_mut(&mut self, id: u64) -> &mut Repository {
        self.repositories.get_mut(&id).expect("a repository of this fake")
    }

    pub fn named(&self, key: &str, slug: &str) -> Option<u64> {
        let mut all = self.repositories.values();
        all.find(|it| it.key.eq_ignore_ascii_case(key) && it.slug == slug)
            .map(|it| it.id)
    }

    /// What a token may do with a repository.
    pub fn access(&self, token: &Token, repository: u64) -> Option<Access> {
        let member = self.repository(repository).members.get(&token.user)?;
        Some((*member).min(token.access))
    }
}
