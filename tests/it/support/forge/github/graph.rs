//! GraphQL: the questions this product asks, told apart by what they ask for.

use crate::support::forge::github::api::{Reply, Who};
use crate::support::forge::github::pulls::may_see;
use crate::support::forge::github::shapes::time;
use crate::support::forge::github::state::State;
use serde_json::{Value, json};

pub fn answer(state: &mut State, who: Who, body: &Value) -> Reply {
    let Who::Installation(_) = who else {
        return Reply::refused(401, "This endpoint requires you to be authenticated.");
    };
    let query = body["query"].as_str().unwrap_or_default().to_owned();
    let variables = &body["variables"];
    let text = |name: &str| variables[name].as_str().unwrap_or_default().to_owned();
    if query.contains("enqueuePullRequest") {
        return enqueue(state, &text("pullRequest"), &text("head"));
    }
    let found = state.named(&text("owner"), &text("name"));
    let Some(id) = found.filter(|it| may_see(state, who, *it)) else {
        return fault("NOT_FOUND", "Could not resolve to a Repository with that name.");
    };
    if query.contains("mergeQueue(") {
        let branch = text("branch");
        let Some(queue) = state.repository(id).queue.get(&branch) else {
            return Reply::ok(json!({"data": {"repository": {"mergeQueue": null}}}));
        };
        let nodes: Vec<Value> = queue
            .iter()
            .enumerate()
            .map(|(at, (number, group))| {
                let head = &state.repository(id).pulls[number].head;
                json!({"position": at + 1, "headCommit": {"oid": group},
                    "pullRequest": {"number": number, "headRefOid": head}})
            })
            .collect();
        return Reply::ok(json!({"data": {"repository": {"mergeQueue": {"entries": {"nodes": nodes}}}}}));
    }
    if query.contains("pullRequests(") {
        let open = state.repository(id).pulls.values().filter(|it| !it.closed);
        let nodes: Vec<Value> = open
            .map(|it| {
                let contexts: Vec<Value> = state
                    .newest(id, &it.head)
                    .values()
                    .map(|status| {
                        let creator = state.users.get(&status.creator).map(|it| it.login.clone());
                        json!({"context": status.context, "state": status.state.to_uppercase(),
                            "createdAt": time(status.at), "creator": {"login": creator}})
                    })
                    .collect();
                let shown = if contexts.is_empty() { Value::Null } else { json!({ "contexts": contexts }) };
                json!({"headRefOid": it.head, "commits": {"nodes": [{"commit": {"oid": it.head, "status": shown}}]}})
            })
            .collect();
        let page = json!({"hasNextPage": false, "endCursor": null});
        return Reply::ok(
            json!({"data": {"repository": {"pullRequests": {"pageInfo": page, "nodes": nodes}}}}),
        );
    }
    fault("UNKNOWN", "This fake knows no such question")
}

fn fault(kind: &str, message: &str) -> Reply {
    Reply::ok(json!({"data": null, "errors": [{"type": kind, "message": message}]}))
}

fn enqueue(state: &mut State, node: &str, head: &str) -> Reply {
    let all = state
        .repositories
        .values()
        .flat_map(|it| it.pulls.values().map(|pull| (it.id, pull.clone())));
    let Some((id, pull)) = all.into_iter().find(|(_, it)| format!("PR_{}", it.id) == node) else {
        return fault("NOT_FOUND", "Could not resolve to a node");
    };
    if pull.head != head {
        return fault("UNPROCESSABLE", "Expected head oid does not match");
    }
    let group = state.group_commit(id, &pull);
    let queue = state
        .repository_mut(id)
        .queue
        .entry(pull.base_ref.clone())
        .or_default();
    queue.push((pull.number, group.clone()));
    let reference = format!(
        "refs/heads/gh-readonly-queue/{}/pr-{}-{}",
        pull.base_ref, pull.number, pull.base
    );
    let payload = json!({"action": "checks_requested", "merge_group": {"head_sha": group, "head_ref": reference,
        "base_ref": format!("refs/heads/{}", pull.base_ref), "base_sha": pull.base}, "sender": {"id": 1, "login": "x"}});
    state.raise(id, "merge_group", payload);
    Reply::ok(json!({"data": {"enqueuePullRequest": {"mergeQueueEntry": {"id": "MQE_1"}}}}))
}

impl State {
    /// The commit that the queue would land for a pull request behind those that stand in it.
    fn group_commit(&mut self, id: u64, pull: &super::state::Pull) -> String {
        let record = self.repository(id);
        let last = record
            .queue
            .get(&pull.base_ref)
            .and_then(|it| it.last())
            .map(|it| it.1.clone());
        let onto = last.unwrap_or_else(|| record.branches[&pull.base_ref].clone());
        let (tree, _) = self.objects.merged_tree(&onto, &pull.head);
        let who = crate::support::forge::gitlab::repository::Signature::new("GitHub", "noreply@github.com");
        let message = format!("Merge pull request #{}", pull.number);
        self.objects.store(
            vec![onto, pull.head.clone()],
            &who,
            &who,
            &message,
            std::sync::Arc::new(tree),
        )
    }
}

impl super::FakeGitHub {
    /// Somebody puts a pull request into its queue, whatever its checks say.
    pub fn enqueue_anyway(&self, repository: u64, number: u64) {
        self.change(|state| {
            let pull = state.repository(repository).pulls[&number].clone();
            let (node, head) = (format!("PR_{}", pull.id), pull.head);
            let reply = enqueue(state, &node, &head);
            assert!(reply.body["errors"].is_null(), "{}", reply.body);
        });
    }
}
