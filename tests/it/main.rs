//! The black-box tests: one binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on should stop where it stands"
)]

mod accounts;
mod admin_cli;
mod audit_figures;
mod audit_pages;
mod backups;
mod bad_input;
mod browser;
mod bundle_exceptions;
mod bundle_keys;
mod bundles;
mod bypass;
mod callbacks;
mod ceremonies;
mod chaos;
mod ci_pieces;
mod codes;
mod conditions;
mod crash;
mod degraded;
mod deployments;
mod diagnostics;
mod fake_gitlab;
mod fake_gitlab_gates;
mod fake_gitlab_history;
mod fake_gitlab_settings;
mod flow_bitbucket_cloud;
mod flow_bitbucket_data_center;
mod flow_github;
mod flow_gitlab;
mod flow_pipeline;
mod gate;
mod github_edges;
mod governance;
mod hsm;
mod keys;
mod listening;
mod locks;
mod monitoring;
mod notices;
mod ocsf;
mod one_policy;
mod openapi;
mod overview;
mod packages;
mod page_times;
mod pages;
mod passphrase;
mod phone;
mod pipeline_gate;
mod policies;
mod policy_pages;
mod proofs;
mod provision;
mod reasons;
mod rebinding;
mod reconcile;
mod retention;
mod rollback;
mod secrets;
mod sink_chaos;
mod sinks;
mod start_time;
mod status_reads;
mod support;
mod support_selftest;
mod syslog;
mod threats_ceremony;
mod threats_codes;
mod tidy;
mod tlog_peers;
mod tls;
