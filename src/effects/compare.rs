//! What a forge lists beside what is recorded: which changes have to be read anew. Pure but for the store it reads.
//! Nothing is concluded from a list but that a change is worth a look.

use crate::domain::facts::ChangeState;
use crate::domain::policy::NamePattern;
use crate::domain::project::Project;
use crate::domain::request::{Change, ChangeKey, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::effects::Trouble;
use crate::forge::{ChangeHead, ListedChange};
use crate::store::Snapshot;
use std::collections::BTreeMap;

/// A project with what is recorded of its changes.
pub(super) struct Recorded<'a> {
    project: &'a Project,
    patterns: Vec<NamePattern>,
    changes: BTreeMap<u64, Change>,
}

impl<'a> Recorded<'a> {
    pub(super) fn read(project: &'a Project, snapshot: &Snapshot) -> Result<Self, Trouble> {
        let rows = snapshot.with_prefix(Table::Changes, format!("{}\0", project.id).as_bytes())?;
        let mut changes = BTreeMap::new();
        for (_, row) in rows {
            let change: Change = decode(&row)?;
            changes.insert(change.key.number, change);
        }
        Ok(Recorded::new(project, changes))
    }

    fn new(project: &'a Project, changes: BTreeMap<u64, Change>) -> Self {
        let patterns = project.settings.branch_patterns.iter();
        Recorded {
            project,
            patterns: patterns.filter_map(|it| NamePattern::new(it).ok()).collect(),
            changes,
        }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.changes.values().filter(|it| it.open).count()
    }

    /// The target branches of open changes that are gated.
    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        let open = self.changes.values();
        open.filter(|it| it.open && it.request.is_some())
            .map(|it| it.target.as_str())
    }

    /// What differs from the whole list of open changes: also what is missing from it.
    pub(super) fn beside_all(&self, listed: &[ChangeHead], tips: &BTreeMap<String, String>) -> Vec<u64> {
        let listed: BTreeMap<u64, &ChangeHead> = listed.iter().map(|it| (it.number, it)).collect();
        let changed = listed.values().filter(|it| !self.is_recorded(it, tips));
        let gone = self
            .changes
            .iter()
            .filter(|(number, it)| it.open && !listed.contains_key(number));
        changed
            .map(|it| it.number)
            .chain(gone.map(|(number, _)| *number))
            .collect()
    }

    /// What differs from a list of some. One that was merged without ever being seen counts if that was after `from` (unix
    /// seconds by the forge's clock).
    pub(super) fn beside_some(&self, listed: &[&ListedChange], from: i64) -> Vec<u64> {
        let none = BTreeMap::new();
        let differs = |it: &&&ListedChange| match (it.state, self.changes.get(&it.head.number)) {
            (ChangeState::Open, _) => !self.is_recorded(&it.head, &none),
            (_, Some(known)) => known.open,
            (ChangeState::Closed, None) => false,
            (ChangeState::Merged, None) => {
                self.is_gated(&it.head) && it.merged_at.is_some_and(|at| at >= from)
            }
        };
        listed.iter().filter(differs).map(|it| it.head.number).collect()
    }

    /// Open, and in all that a list shows as it is recorded.
    fn is_recorded(&self, head: &ChangeHead, tips: &BTreeMap<String, String>) -> bool {
        match self.changes.get(&head.number) {
            Some(it) => {
                it.open
                    && it.head == head.head
                    && it.source == head.source
                    && it.target == head.target
                    && it.draft == head.draft
                    && it.title == head.title
                    && it.request.is_some() == self.is_gated(head)
                    && tips
                        .get(&head.target)
                        .is_none_or(|now| it.target_sha.as_ref() == Some(now))
            }
            None => !self.is_gated(head),
        }
    }

    fn is_gated(&self, head: &ChangeHead) -> bool {
        self.patterns.iter().any(|it| it.matches_branch(&head.target))
    }

    /// The keys of those that nobody is about to read already.
    pub(super) fn not_hinted(
        &self,
        numbers: Vec<u64>,
        snapshot: &Snapshot,
    ) -> Result<Vec<ChangeKey>, Trouble> {
        let mut keys = Vec::new();
        for number in numbers {
            let key = ChangeKey {
                project: self.project.id.clone(),
                number,
            };
            if snapshot
                .get_raw(Table::Hints, change_row(&key).as_bytes())?
                .is_none()
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn project() -> Project {
        serde_json::from_value(json!({
            "id": "prj_00000000000000000000000000", "integration": "int_00000000000000000000000000", "path": "g/a",
            "web_url": "", "created_at": "2026-11-01T00:00:00.000Z", "removed": false,
            "settings": {
                "forge_project_id": "42", "branch_patterns": ["main"], "quorum": 1, "auto_merge": false,
                "policy": null, "approvers": [], "methods": null,
            },
        }))
        .expect("a project")
    }

    fn head(number: u64) -> ChangeHead {
        ChangeHead {
            number,
            head: "a".repeat(40),
            target: "refs/heads/main".into(),
            source: "refs/heads/topic".into(),
            updated_at: String::new(),
            draft: false,
            title: "A change".into(),
        }
    }

    fn change(project: &Project, number: u64, open: bool) -> Change {
        let head = head(number);
        serde_json::from_value(json!({
            "key": {"project": project.id, "number": number}, "open": open, "merged": false, "draft": false,
            "title": head.title, "web_url": "", "author": {"id": "1", "username": "a", "name": "A"},
            "head": head.head, "base": "b".repeat(40), "source": head.source, "target": head.target,
            "source_project_id": "42", "files_sha256": "0".repeat(64),
            "request": "apr_00000000000000000000000000", "observed_at": "2026-11-01T00:00:00.000Z",
        }))
        .expect("a change")
    }

    fn listed(number: u64, state: ChangeState, merged_at: Option<i64>) -> ListedChange {
        ListedChange {
            forge_project_id: "42".into(),
            state,
            merged_at,
            head: head(number),
        }
    }

    #[test]
    fn whatever_a_list_shows_differently_is_looked_at() {
        let project = project();
        let known = Recorded::new(&project, [(1, change(&project, 1, true))].into());
        let none = BTreeMap::new();
        assert_eq!(known.beside_all(&[head(1)], &none), [0; 0]);
        let edits: [fn(&mut ChangeHead); 5] = [
            |it| it.head = "c".repeat(40),
            |it| it.source = "refs/heads/other".into(),
            |it| it.target = "refs/heads/elsewhere".into(),
            |it| it.draft = true,
            |it| it.title = "Another".into(),
        ];
        for edit in edits {
            let mut other = head(1);
            edit(&mut other);
            assert_eq!(
                known.beside_all(std::slice::from_ref(&other), &none),
                [1],
                "{other:?}"
            );
        }
        // Missing: closed or merged, or the list is wrong; its own page tells.
        assert_eq!(known.beside_all(&[], &none), [1]);
        assert_eq!(known.beside_all(&[head(1), head(2)], &none), [2]);
        let moved = BTreeMap::from([("refs/heads/main".to_owned(), "d".repeat(40))]);
        assert_eq!(known.beside_all(&[head(1)], &moved), [1]);
    }

    #[test]
    fn a_list_of_some_says_nothing_about_what_is_not_in_it() {
        let project = project();
        let known = Recorded::new(
            &project,
            [(1, change(&project, 1, true)), (2, change(&project, 2, false))].into(),
        );
        assert_eq!(known.beside_some(&[], 100), [0; 0]);
        for (item, found) in [
            (listed(1, ChangeState::Open, None), false),
            (listed(1, ChangeState::Closed, None), true),
            (listed(1, ChangeState::Merged, Some(50)), true),
            (listed(2, ChangeState::Merged, Some(150)), false),
            (listed(2, ChangeState::Open, None), true),
            (listed(3, ChangeState::Open, None), true),
            (listed(3, ChangeState::Closed, None), false),
            // Opened and merged between two looks, and one from before there was a gate.
            (listed(3, ChangeState::Merged, Some(150)), true),
            (listed(3, ChangeState::Merged, Some(50)), false),
            (listed(3, ChangeState::Merged, None), false),
        ] {
            let expected = if found { vec![item.head.number] } else { Vec::new() };
            assert_eq!(known.beside_some(&[&item], 100), expected, "{item:?}");
        }
    }
}
