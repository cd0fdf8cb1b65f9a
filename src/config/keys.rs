//! Every setting there is.

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A whole number, with or without quotes.
    Number,
    /// Texts; in the environment separated by commas.
    List,
    /// Text that is never shown and never stands in the file.
    Secret,
}

/// One setting. `docs/configure.md` says the same; a test compares them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Empty: none, or decided at start.
    pub default: &'static str,
}

/// All settings, in the order of the documentation.
pub const KEYS: &[Key] = &[
    Key {
        name: "public_url",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "listen",
        kind: Kind::Text,
        default: "127.0.0.1:8080",
    },
    Key {
        name: "data_dir",
        kind: Kind::Text,
        default: "./signedapproval-data",
    },
    Key {
        name: "tls.certificate",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "tls.private_key",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "tls.minimum_version",
        kind: Kind::Text,
        default: "1.2",
    },
    Key {
        name: "tls.client_ca",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "tls.client_certificate",
        kind: Kind::Text,
        default: "optional",
    },
    Key {
        name: "tls.redirect_listen",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "proxy.trusted",
        kind: Kind::List,
        default: "",
    },
    Key {
        name: "limits.connections",
        kind: Kind::Number,
        default: "12000",
    },
    Key {
        name: "limits.connections_per_address",
        kind: Kind::Number,
        default: "6000",
    },
    Key {
        name: "keys.backend",
        kind: Kind::Text,
        default: "file",
    },
    Key {
        name: "keys.agent_socket",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "keys.credential",
        kind: Kind::Text,
        default: "credential",
    },
    Key {
        name: "keys.log",
        kind: Kind::Text,
        default: "log",
    },
    Key {
        name: "keys.passphrase",
        kind: Kind::Secret,
        default: "",
    },
    Key {
        name: "storage.reserve_mib",
        kind: Kind::Number,
        default: "64",
    },
    Key {
        name: "backup.directory",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "backup.every",
        kind: Kind::Text,
        default: "24h",
    },
    Key {
        name: "backup.keep",
        kind: Kind::Number,
        default: "7",
    },
    Key {
        name: "outbound.allow_http",
        kind: Kind::List,
        default: "",
    },
    Key {
        name: "outbound.allow_private",
        kind: Kind::List,
        default: "",
    },
    Key {
        name: "sinks.directory",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "sinks.witness",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "sinks.require",
        kind: Kind::Text,
        default: "none",
    },
    Key {
        name: "sinks.require_wait",
        kind: Kind::Text,
        default: "5s",
    },
    Key {
        name: "sinks.stuck_after",
        kind: Kind::Text,
        default: "5m",
    },
    Key {
        name: "forge.look_every",
        kind: Kind::Text,
        default: "25",
    },
    Key {
        name: "security.passkey_hold",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "security.authenticators",
        kind: Kind::List,
        default: "",
    },
    Key {
        name: "security.session_idle",
        kind: Kind::Text,
        default: "2h",
    },
    Key {
        name: "metrics.listen",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "metrics.token",
        kind: Kind::Secret,
        default: "",
    },
    Key {
        name: "log.level",
        kind: Kind::Text,
        default: "info",
    },
    Key {
        name: "limits.changes_per_minute",
        kind: Kind::Text,
        default: "1200",
    },
    Key {
        name: "limits.reads_per_minute",
        kind: Kind::Text,
        default: "12000",
    },
    Key {
        name: "callbacks.hosts",
        kind: Kind::List,
        default: "",
    },
    Key {
        name: "languages.directory",
        kind: Kind::Text,
        default: "",
    },
    Key {
        name: "log.format",
        kind: Kind::Text,
        default: "text",
    },
];

/// What SIGHUP reads anew and puts into force without a restart.
pub const RELOADED: &[&str] = &[
    "tls.certificate",
    "tls.private_key",
    "tls.minimum_version",
    "tls.client_ca",
    "tls.client_certificate",
    "proxy.trusted",
    "limits.connections",
    "limits.connections_per_address",
    "log.level",
];
