//! What the fake Bitbucket Cloud remembers.

use crate::support::forge::bitbucket_cloud::{api, installed};
use crate::support::forge::description::Document;
use crate::support::forge::gitlab::repository::{Objects, Sha};
use crate::support::forge::host::{Answer, Asked, Outgoing, Served};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct User {
    pub uuid: String,
    pub nickname: String,
    pub name: String,
    pub email: String,
}

/// A token, and what it may do.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: String,
    /// `None`: an access token or a consumer's, which is nobody in particular.
    pub user: Option<String>,
    pub scopes: Vec<String>,
    pub revoked: bool,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub id: String,
    pub secret: String,
    pub scopes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub key: String,
    pub name: String,
    pub state: String,
    pub url: String,
    pub description: String,
    pub refname: Option<String>,
    pub updated: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub number: u64,
    pub title: String,
    pub author: String,
    /// The repository the source branch is in.
    pub source: String,
    pub source_branch: String,
    pub head: Sha,
    pub target_branch: String,
    /// The target's tip when the pull request was last touched.
    pub target: Sha,
    /// `OPEN`, `MERGED`, `DECLINED` or `SUPERSEDED`.
    pub state: &'static str,
    pub draft: bool,
    pub landed: Option<Sha>,
    pub closed_by: Option<String>,
    pub updated: Timestamp,
    /// By whom, and the head then; the newest last.
    pub updates: Vec<(String, Sha)>,
}

#[derive(Clone, Debug)]
pub struct Hook {
    pub url: String,
    pub secret: String,
    pub active: bool,
    pub events: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Repository {
    pub uuid: String,
    pub workspace: String,
    pub slug: String,
    pub branches: BTreeMap<String, Sha>,
    pub pulls: BTreeMap<u64, Pull>,
    /// By commit and key.
    pub statuses: BTreeMap<(Sha, String), Status>,
    /// As Bitbucket writes them.
    pub restrictions: Vec<Value>,
    pub hooks: Vec<Hook>,
    pub strategies: Vec<String>,
    /// Nobody's token sees it.
    pub hidden: bool,
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
    /// Webhooks are not sent.
    pub silent: bool,
    pub users: BTreeMap<String, User>,
    pub tokens: Vec<Token>,
    pub consumer: Option<Consumer>,
    pub repositories: BTreeMap<String, Repository>,
    pub objects: Objects,
    pub calls: Vec<Call>,
    pub faults: Vec<Fault>,
    pub violations: Vec<String>,
    /// Bitbucket's own description of its API, where it is there.
    pub document: Option<Arc<Document>>,
    /// So many files are listed on a page at most.
    pub files_page: usize,
    /// So many files are counted of every difference.
    pub counted_files: Option<u64>,
    /// Merges are made behind the caller's back.
    pub slow_merges: bool,
    /// Merges under way: task, repository, number, by whom, and how often it was asked for.
    pub tasks: Vec<(String, String, u64, String, u32)>,
    /// Somebody pushes this in the moment in which a merge is asked for.
    pub pushed_in_between: Option<(Sha, String)>,
    pub outgoing: Vec<Outgoing>,
    next: u64,
}

impl State {
    pub fn new(base_url: &str) -> Self {
        State {
            base_url: base_url.to_owned(),
            silent: false,
            users: BTreeMap::new(),
            tokens: Vec::new(),
            consumer: None,
            repositories: BTreeMap::new(),
            objects: Objects::default(),
            calls: Vec::new(),
            faults: Vec::new(),
            violations: Vec::new(),
            document: installed(),
            files_page: 500,
            counted_files: None,
            slow_merges: false,
            tasks: Vec::new(),
            pushed_in_between: None,
            outgoing: Vec::new(),
            next: 1000,
        }
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn fresh_uuid(&mut self) -> String {
        let number = self.fresh();
        format!("{{{number:08x}-0000-4000-8000-000000000000}}")
    }

    pub fn repository(&self, uuid: &str) -> &Repository {
        self.repositories.get(uuid).expect("a repository of this fake")
    }

    pub fn repository_mut(&mut self, uuid: &str) -> &mut Repository {
        self.repositories
            .get_mut(uuid)
            .expect("a repository of this fake")
    }

    /// The repository that a path names: by UUID in any workspace, or by workspace and name.
    pub fn named(&self, workspace: &str, name: &str) -> Option<String> {
        let mut all = self.repositories.values().filter(|it| !it.hidden);
        all.find(|it| {
            let here = matches!(workspace, "{}") || it.workspace == workspace;
            here && (it.uuid == name || it.slug == name)
        })
        .map(|it| it.uuid.clone())
    }
}

impl Served for State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        api::handle(self, asked)
    }

    fn outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    fn last_calls(&self) -> Vec<String> {
        let last = self.calls.iter().rev().take(25).rev();
        last.map(|it| {
            let (method, path, query) = (&it.method, &it.path, &it.query);
            format!("  {method} {path}?{query} {} -> {}", it.body, it.status)
        })
        .collect()
    }
}
