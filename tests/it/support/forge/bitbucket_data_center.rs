//! A stateful, strict Bitbucket Data Center on loopback, below a path of its own: real HTTP, real refusals, real webhooks. It
//! checks every token and what its account may do.

pub mod acts;
mod api;
mod pulls;
mod repositories;
mod shapes;
pub mod state;
pub mod validator;

use crate::support::forge::bitbucket_data_center::state::{Call, Fault, State};
use crate::support::forge::host::{Host, Served};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A running fake Bitbucket Data Center.
#[derive(Clone)]
pub struct FakeBitbucketDataCenter {
    host: Host<State>,
}

impl FakeBitbucketDataCenter {
    /// Starts on a port of its own, without people and repositories.
    pub fn start() -> Self {
        FakeBitbucketDataCenter {
            host: Host::start(State::new),
        }
    }

    /// Where people would go.
    pub fn base_url(&self) -> String {
        self.read(|state| state.base_url.clone())
    }

    pub fn port(&self) -> u16 {
        let url = url::Url::parse(&self.base_url()).expect("a URL");
        url.port().expect("a port")
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.host.read(look)
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.host.change(change)
    }

    /// The next `times` calls of that method whose path holds `path` are answered so.
    pub fn fail(
        &self,
        method: &str,
        path: &str,
        times: usize,
        status: u16,
        headers: &[(&str, &str)],
        body: Value,
    ) {
        let fault = Fault {
            method: method.to_owned(),
            path: path.to_owned(),
            left: times,
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body,
        };
        self.change(|state| state.faults.push(fault));
    }

    /// The calls of that method whose path holds `path`.
    pub fn calls_to(&self, method: &str, path: &str) -> Vec<Call> {
        self.read(|state| {
            let all = state.calls.iter();
            all.filter(|it| it.method == method && it.path.contains(path))
                .cloned()
                .collect()
        })
    }

    /// Waits until the condition holds.
    pub fn expect(&self, what: &str, timeout: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            if started.elapsed() >= timeout {
                let lines = self.read(Served::last_calls);
                panic!(
                    "not within {timeout:?}: {what}\nlast calls:\n{}",
                    lines.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nothing that no real client may do was done: calls that Atlassian's own document does not describe, merges without
    /// a version.
    pub fn assert_no_violations(&self) {
        let found = self.read(|state| state.violations.clone());
        assert!(found.is_empty(), "the fake Bitbucket saw:\n{}", found.join("\n"));
    }
}
