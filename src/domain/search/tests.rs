//! The index against the plain filter over all requests: the same answer, in whatever pages it is read.

use crate::domain::ids::{PersonId, RequestId};
use crate::domain::request::{ChangeKey, Decision, Kind, Request, Requester, Status};
use crate::domain::search::index::terms;
use crate::domain::search::{BLOCK, Found, More, Query, find, note_changed, note_opened};
use crate::domain::state::{Fault, Read, Row, Table, Write};
use crate::domain::time::Time;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

#[derive(Clone, Default)]
struct Rows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Read for Rows {
    fn get_raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan_raw(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        most: usize,
        back: bool,
    ) -> Result<Vec<Row>, Fault> {
        let range = self.0.range((table, from.to_vec())..(table, to.to_vec()));
        let rows = range.map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(match back {
            true => rows.rev().take(most).collect(),
            false => rows.take(most).collect(),
        })
    }

    fn blob(&self, _: &crate::domain::ids::Digest) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
}

impl Write for Rows {
    fn put_raw(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.0.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete_raw(&mut self, table: Table, key: &[u8]) -> Result<(), Fault> {
        self.0.remove(&(table, key.to_vec()));
        Ok(())
    }
}

/// Requests before the ones of a case, so that those lie on both sides of a block's end.
const BEFORE: u64 = BLOCK - 9;

/// A world with requests that have 4,000 words of their own with the same beginning.
static FILLED: LazyLock<Rows> = LazyLock::new(|| {
    let mut rows = Rows::default();
    for n in 0..BEFORE {
        let ada = Requester::Person {
            id: person(1),
            name: "Filler".into(),
        };
        open(&mut rows, n, &format!("x{n} filler"), ada, n as i64);
    }
    rows
});

fn person(n: u8) -> PersonId {
    PersonId::from_random([n; 16])
}

fn digest() -> serde_json::Value {
    serde_json::json!("0".repeat(64))
}

fn open(rows: &mut Rows, n: u64, title: &str, requester: Requester, at: i64) -> Request {
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let change = n.is_multiple_of(3).then(|| ChangeKey {
        project: crate::domain::ids::ProjectId::from_random([8; 16]),
        number: n % 200,
    });
    let of = |all: &[&str]| all[n as usize % all.len()].to_owned();
    let mut request: Request = serde_json::from_value(serde_json::json!({
        "id": RequestId::from_random(bits), "kind": Kind::ALL[n as usize % 3], "status": "pending", "title": title,
        "requester": requester, "subject_sha256": digest(),
        "policy": {"name": of(&["default", "payments"]), "version": 1, "sha256": digest()},
        "obligations": [{"rule": of(&["Two people", "One person"]), "methods": [], "quorum": 1}], "break_glass": [],
        "involved": {}, "ttl_seconds": null, "blocked": false, "change": change, "head": format!("{:040x}", n * 7919),
        "target": "refs/heads/main", "environment": of(&["production", "staging", "Ünïcode"]),
        "project_name": of(&["pay/api", "pay/web", "docs"]), "opening": digest(), "created_at": Time(at),
        "expires_at": null, "decided_at": null, "ended_because": null, "decisions": [], "outcome": null,
        "consumed_at": null, "lapsed": false, "seq": n * 3, "changed_seq": n * 3,
    }))
    .expect("a request");
    request.source = Some(format!(
        "refs/heads/{}",
        of(&["fix/login", "ada/Straße", "feature"])
    ));
    note_opened(&mut request, rows).expect("written");
    rows.put(&request).expect("written");
    request
}

fn change(rows: &mut Rows, request: &mut Request, change: impl FnOnce(&mut Request)) {
    let before = request.clone();
    change(request);
    note_changed(&before, request, rows).expect("written");
    rows.put(request).expect("written");
}

/// What happens to a request of a case.
#[derive(Clone, Debug)]
struct Course {
    title: Vec<&'static str>,
    requester: u8,
    status: usize,
    decided: bool,
    erased: bool,
}

fn course() -> impl Strategy<Value = Course> {
    let title = proptest::collection::vec(
        prop::sample::select(vec![
            "deploy",
            "Deployment",
            "fix",
            "LOGIN",
            "log",
            "x",
            "x17",
            "Straße",
            "部署",
        ]),
        0..5,
    );
    (
        title,
        1_u8..4,
        0_usize..7,
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(title, requester, status, decided, erased)| Course {
            title,
            requester,
            status,
            decided,
            erased,
        })
}

fn query() -> impl Strategy<Value = Query> {
    let searched = prop::sample::select(vec![
        "",
        "deploy",
        "depl login",
        "x",
        "x1 deploy",
        "!142",
        "#3",
        "api!9",
        "pay/api!12",
        "12",
        "STRASSE",
        "部",
        "fix/lo",
        "main prod",
        "apr_00",
        "0000",
        "!",
        "filler",
        "erased",
        "ada",
    ]);
    let one_in_four = || prop::bool::weighted(0.25);
    let state = (
        one_in_four(),
        0_usize..7,
        one_in_four(),
        0_usize..3,
        one_in_four(),
        one_in_four(),
    );
    let names = (one_in_four(), one_in_four(), one_in_four(), one_in_four());
    let times = (
        proptest::option::weighted(0.2, 0_i64..5_000),
        proptest::option::weighted(0.2, 0_i64..5_000),
    );
    (searched, state, names, times).prop_map(|(searched, state, names, (since, until))| {
        let mut query = Query::default();
        query.search(searched);
        if state.0 {
            query.status(Status::ALL[state.1]);
        }
        if state.2 {
            query.kind(Kind::ALL[state.3]);
        }
        if state.4 {
            query.decided_by(&person(7));
        }
        if state.5 {
            query.requester("person 2");
        }
        if names.0 {
            query.environment("ünïcode");
        }
        if names.1 {
            query.project("pay/API");
        }
        if names.2 {
            query.policy("payments");
        }
        if names.3 {
            query.rule("Two people");
        }
        query.since = since.map(Time);
        query.until = until.map(Time);
        query
    })
}

/// All pages of an answer, as ids.
fn walk(rows: &Rows, query: &Query, page: usize, sees: impl Fn(&Request) -> bool) -> Vec<RequestId> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let Found { requests, more } = find(rows, query, before, page, &sees).expect("found");
        assert!(requests.len() <= page);
        if let More::Yes { .. } = more {
            assert_eq!(requests.len(), page, "there is more only behind a full page");
        }
        all.extend(requests.into_iter().map(|it| it.id));
        let Some(next) = more.before() else {
            return all;
        };
        assert!(before.is_none_or(|it| next < it), "each page gets on");
        before = Some(next);
    }
}

/// Every request with its terms, the newest first.
type Known = Vec<(Request, BTreeSet<Vec<u8>>)>;

fn known(rows: &Rows) -> Known {
    let all: Vec<Request> = rows.all().expect("all of them");
    let mut all: Known = all.into_iter().map(|it| (it.clone(), terms(&it))).collect();
    all.sort_by_key(|(it, _)| std::cmp::Reverse(it.ordinal));
    all
}

static FILLED_KNOWN: LazyLock<Known> = LazyLock::new(|| known(&FILLED));

fn filtered<'a>(
    all: impl Iterator<Item = &'a (Request, BTreeSet<Vec<u8>>)>,
    query: &Query,
) -> Vec<RequestId> {
    all.filter(|(it, terms)| query.fits(it, terms))
        .map(|(it, _)| it.id.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_the_filter_finds(
        courses in proptest::collection::vec(course(), 0..40),
        queries in proptest::collection::vec(query(), 6),
        page in 1_usize..60,
    ) {
        let mut rows = FILLED.clone();
        let mut own = Rows::default();
        for (n, it) in courses.iter().enumerate() {
            let requester = Requester::Person { id: person(it.requester), name: format!("Person {} of Ada’s", it.requester) };
            let n = BEFORE + n as u64;
            let mut request = open(&mut rows, n, &it.title.join(" "), requester, n as i64);
            if it.decided {
                change(&mut rows, &mut request, |it| it.decisions.push(decision()));
            }
            change(&mut rows, &mut request, |request| request.status = Status::ALL[it.status]);
            if it.erased {
                change(&mut rows, &mut request, |it| {
                    it.title = "(erased)".into();
                    it.requester = Requester::ForgeAccount { id: String::new(), name: "(erased)".into() };
                    it.source = None;
                    it.erased_at = Some(Time(9_000));
                });
            }
            own.put(&request).expect("kept");
        }
        let own = known(&own);
        for query in &queries {
            let wanted = filtered(own.iter().chain(&*FILLED_KNOWN), query);
            prop_assert_eq!(walk(&rows, query, page, |_| true), wanted, "{:?}", query);
        }
    }
}

fn decision() -> Decision {
    serde_json::from_value(serde_json::json!({
        "person": person(7), "name": "Person 7", "answer": "approve", "method": "passkey", "decided_at": Time(1),
        "comment": "", "credential": digest(), "seq": 1,
    }))
    .expect("a decision")
}

#[test]
fn an_answer_that_would_cost_too_much_says_how_far_it_has_looked() {
    let rows = &*FILLED;
    let everything = Query::default();
    let Found { requests, more } = find(rows, &everything, None, 50, |_| false).expect("found");
    assert!(requests.is_empty());
    let More::Stopped { before, back_to } = more else {
        panic!("{more:?}");
    };
    assert!((1..BEFORE - 100).contains(&before), "{before}");
    assert_eq!(back_to, Time(before as i64), "up to the request with that number");
    // Going on finds the one that this caller may see, wherever it stands.
    let oldest: Vec<RequestId> = walk(rows, &everything, 50, |it| it.ordinal == 3);
    assert_eq!(oldest.len(), 1);
}

#[test]
fn what_was_erased_is_not_found_by_what_it_was_and_leaves_no_row() {
    let mut rows = Rows::default();
    let requester = Requester::ForgeAccount {
        id: "77".into(),
        name: "Grace".into(),
    };
    let mut request = open(&mut rows, 0, "Secret plan", requester, 1);
    change(&mut rows, &mut request, |it| {
        it.title = "(erased)".into();
        it.requester = Requester::ForgeAccount {
            id: String::new(),
            name: "(erased)".into(),
        };
        it.source = None;
        it.erased_at = Some(Time(2));
    });
    let index = rows
        .0
        .iter()
        .filter(|((table, _), _)| *table == Table::RequestIndex);
    for ((_, key), _) in index {
        let text = String::from_utf8_lossy(key).to_lowercase();
        for gone in ["secret", "plan", "grace", "77", "login"] {
            assert!(!text.contains(gone), "{gone} in {text:?}");
        }
    }
    let mut query = Query::default();
    query.search("secret");
    assert!(
        find(&rows, &query, None, 9, |_| true)
            .expect("found")
            .requests
            .is_empty()
    );
}
