//! What comes with the program: units, manual pages, completions, alert rules, the dashboard; and, as a long campaign, the
//! packages themselves.

use crate::support::appliance::{binary, new_dir, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_there(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output();
    let there = found.is_ok_and(|it| it.status.success());
    if !there {
        eprintln!("skipped: there is no {tool}");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_pages_and_completions_cover_every_subcommand() {
    let dir = new_dir();
    let (code, _, err) = run(&dir, &["man", "."], &[]).await;
    assert_eq!(code, 0, "{err}");
    for name in [
        "",
        "-serve",
        "-verify",
        "-config-check",
        "-admin-invite",
        "-policy-explain",
    ] {
        let page = fs::read_to_string(dir.join(format!("signedapproval{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME"), "{name}: {page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, err) = run(&dir, &["completions", shell], &[]).await;
        assert!(
            code == 0 && out.contains("healthcheck") && out.contains("data-dir"),
            "{shell}: {err}"
        );
    }
    let script = "eval \"$1\"; complete -p signedapproval";
    let (_, bash, _) = run(&dir, &["completions", "bash"], &[]).await;
    let ran = Command::new("bash")
        .args(["-c", script, "bash", &bash])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_units_are_as_closed_as_they_say() {
    if !is_there("systemd-analyze") {
        return;
    }
    // In tenths: 1.1 is what a server on the Internet can reach at best.
    for (unit, most) in [
        ("signedapproval", 11),
        ("signedapproval-pkcs11", 4),
        ("signedapproval-backup", 4),
    ] {
        let ran = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={most}"))
            .arg(root().join(format!("systemd/{unit}.service")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let verdict = said
            .lines()
            .rfind(|it| it.contains("Overall exposure"))
            .unwrap_or_default();
        assert!(
            ran.status.success(),
            "{verdict}\n{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c: char| !is_name(c))
        .filter(|it| it.starts_with("signedapproval_") || it.starts_with("process_"))
        .map(|it| it.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let documented = names(&fs::read_to_string(root().join("docs/operate.md")).unwrap());
    for file in [
        "packaging/prometheus/alerts.yml",
        "packaging/grafana/dashboard.json",
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 8, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = fs::read_to_string(root().join("packaging/grafana/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|it| it.len() > 8));
    if is_there("promtool") {
        let file = root().join("packaging/prometheus/alerts.yml");
        let ran = Command::new("promtool")
            .args(["check", "rules"])
            .arg(file)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn the_units_name_what_the_program_knows() {
    let read = |name: &str| fs::read_to_string(root().join("systemd").join(name)).unwrap();
    let service = read("signedapproval.service");
    assert!(service.contains("LoadCredential=passphrase:") && service.contains("Type=notify"));
    assert!(read("signedapproval-redirect.socket").contains("FileDescriptorName=redirect"));
    // Settings that are wrong end with this code, and trying again does not mend them.
    assert!(service.contains("RestartPreventExitStatus=2"));
    // A PIN that the token refuses is not tried again until the token locks itself.
    let helper = read("signedapproval-pkcs11.service");
    assert!(helper.contains("RestartPreventExitStatus=2 5"));
    for argument in ["--module", "--token", "--origin", "--pin-file", "--socket"] {
        assert!(helper.contains(argument), "{argument}");
    }
    assert!(read("signedapproval-backup.service").contains("/usr/bin/signedapproval backup create"));
}

/// Makes the packages twice with `SIGNEDAPPROVAL_PACKAGES=1` and compares: a minute, most of it compression.
#[test]
fn packages_are_made_the_same_twice() {
    if std::env::var_os("SIGNEDAPPROVAL_PACKAGES").is_none() {
        eprintln!("skipped: set SIGNEDAPPROVAL_PACKAGES=1 to make the packages");
        return;
    }
    let make = |to: &Path| {
        let ran = Command::new(root().join("packaging/build"))
            .arg(to)
            .arg(binary())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        fs::read_to_string(to.join("SHA256SUMS")).unwrap()
    };
    let (one, two) = (new_dir(), new_dir());
    let sums = make(&one);
    assert_eq!(sums, make(&two));
    assert!(sums.lines().count() >= 3, "{sums}");
    fs::remove_dir_all(&one).unwrap();
    fs::remove_dir_all(&two).unwrap();
}

/// Whoever adds a dependency says why, and whoever removes one takes its line along.
#[test]
fn each_direct_dependency_has_its_reason() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let used: BTreeSet<String> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let text = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|it| it.starts_with("| `")) {
        let mut cells = line.split('|').skip(1);
        let (names, why) = (cells.next().unwrap(), cells.next().unwrap());
        assert!(why.trim().len() > 15, "{line}");
        named.extend(names.split(',').map(|it| it.trim().trim_matches('`').to_owned()));
    }
    assert_eq!(used, named);
    let count = format!("{} direct dependencies", used.len());
    assert!(text.contains(&count), "it should say {count:?}");
}
