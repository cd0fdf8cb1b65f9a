//! Dangerous acts: changes that could open a gate, or give somebody what opens one. A session alone does none of them: each
//! asks for a passkey at that moment, over exactly that act, and for a reason; some for a second admin. `docs/security.md`
//! has the same list; a test holds the two together, and goes through all of it on the program itself.

/// Whether a further admin has to stand behind an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    Never,
    /// Where there are two admins whose passkeys decide. A new server's only admin goes on alone, in the journal's sight.
    WhereTwo,
    /// Where it gives or takes the role admin, or gives the acting admin a place of their own; as above.
    WhereTwoAndOwn,
    Always,
}

/// A dangerous act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    InvitePerson,
    ChangeRoles,
    WeakenPolicy,
    WeakenProject,
    RemoveProject,
    RemoveIntegration,
    PutGateBack,
    ChangeGroup,
    LetStandIn,
    RecoverPerson,
    EraseDocuments,
    MakeAdminKey,
    RotateKey,
    RevokeKey,
    LinkAccount,
    RemoveSink,
}

impl Act {
    /// All of them.
    pub const ALL: [Act; 16] = [
        Act::InvitePerson,
        Act::ChangeRoles,
        Act::WeakenPolicy,
        Act::WeakenProject,
        Act::RemoveProject,
        Act::RemoveIntegration,
        Act::PutGateBack,
        Act::ChangeGroup,
        Act::LetStandIn,
        Act::RecoverPerson,
        Act::EraseDocuments,
        Act::MakeAdminKey,
        Act::RotateKey,
        Act::RevokeKey,
        Act::LinkAccount,
        Act::RemoveSink,
    ];

    /// Its name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Act::InvitePerson => "people.invite",
            Act::ChangeRoles => "people.roles",
            Act::WeakenPolicy => "policy.weaken",
            Act::WeakenProject => "project.weaken",
            Act::RemoveProject => "project.remove",
            Act::RemoveIntegration => "integration.remove",
            Act::PutGateBack => "gate.put_back",
            Act::ChangeGroup => "group.members",
            Act::LetStandIn => "delegation.make",
            Act::RecoverPerson => "people.recover",
            Act::EraseDocuments => "documents.erase",
            Act::MakeAdminKey => "api_key.admin",
            Act::RotateKey => "keys.rotate",
            Act::RevokeKey => "keys.revoke",
            Act::LinkAccount => "account.link",
            Act::RemoveSink => "sink.remove",
        }
    }

    /// What it is, for people.
    pub fn words(self) -> &'static str {
        match self {
            Act::InvitePerson => "invite a person, or invite one anew",
            Act::ChangeRoles => "change somebody's roles, or let them in or out",
            Act::WeakenPolicy => "make a policy ask for less, or for other people",
            Act::WeakenProject => "make a project's gate ask for less, or for other people",
            Act::RemoveProject => "gate a project no more",
            Act::RemoveIntegration => "remove a forge whose projects are gated",
            Act::PutGateBack => "put back what holds a gate on its forge",
            Act::ChangeGroup => "change who is in a group that rules or projects name",
            Act::LetStandIn => "let somebody stand in for somebody",
            Act::RecoverPerson => "end the passkeys of somebody who lost them",
            Act::EraseDocuments => "erase documents whose time is over",
            Act::MakeAdminKey => "make an API key with the scope admin",
            Act::RotateKey => "let another signing key take over, or seal all secrets anew",
            Act::RevokeKey => "revoke a signing key",
            Act::LinkAccount => "say whose account on a forge it is, without their proof",
            Act::RemoveSink => "remove a log sink, or send it elsewhere",
        }
    }

    /// Whether it needs a second admin.
    pub fn second(self) -> Second {
        match self {
            Act::InvitePerson | Act::ChangeRoles | Act::ChangeGroup => Second::WhereTwoAndOwn,
            Act::WeakenPolicy
            | Act::WeakenProject
            | Act::RemoveProject
            | Act::RemoveIntegration
            | Act::PutGateBack => Second::WhereTwo,
            Act::RecoverPerson | Act::EraseDocuments => Second::Always,
            Act::LetStandIn
            | Act::MakeAdminKey
            | Act::RotateKey
            | Act::RevokeKey
            | Act::LinkAccount
            | Act::RemoveSink => Second::Never,
        }
    }
}

impl Second {
    /// For tables.
    pub fn words(self) -> &'static str {
        match self {
            Second::Never => "no",
            Second::WhereTwo => "where there are two",
            Second::WhereTwoAndOwn => {
                "where there are two, and it is about the role admin or one's own place"
            }
            Second::Always => "always",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::danger::Act;

    #[test]
    fn the_page_about_security_has_each_act_as_it_is() {
        let page = include_str!("../../docs/security.md");
        let rows: Vec<&str> = page.lines().filter(|it| it.starts_with("| `")).collect();
        for act in Act::ALL {
            let row = format!(
                "| `{}` | {} | yes | yes | {} |",
                act.name(),
                act.words(),
                act.second().words()
            );
            assert!(rows.contains(&row.as_str()), "docs/security.md lacks: {row}");
        }
        assert_eq!(rows.len(), Act::ALL.len(), "a row too many");
    }
}
