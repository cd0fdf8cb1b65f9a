//! Settings by layer.

use crate::config::{Flags, Origin, is_evaluation, load};
use std::io::Write;

fn file(text: &str) -> (tempdir::Dir, Flags) {
    let dir = tempdir::Dir::new();
    let path = dir.0.join("config.toml");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    (
        dir,
        Flags {
            config: Some(path),
            ..Flags::default()
        },
    )
}

mod tempdir {
    pub struct Dir(pub std::path::PathBuf);
    impl Dir {
        pub fn new() -> Self {
            let mut bits = [0; 8];
            getrandom::fill(&mut bits).unwrap();
            let path = std::env::temp_dir().join(format!("sa-config-{}", hex::encode(bits)));
            std::fs::create_dir(&path).unwrap();
            Dir(path)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (_dir, flags) = file("listen = \"127.0.0.1:1\"\n\n[security]\npasskey_hould = \"1h\"\n");
    let error = load(&flags, std::iter::empty()).unwrap_err().to_string();
    assert!(
        error.ends_with("config.toml:4: unknown setting `security.passkey_hould`"),
        "{error}"
    );
}

#[test]
fn flags_win_over_environment_over_file() {
    let (_dir, flags) = file("listen = \"127.0.0.1:1\"\npublic_url = \"https://a.example\"\n");
    let environment = [("SIGNEDAPPROVAL_LISTEN".to_owned(), "127.0.0.1:2".to_owned())];
    let settings = load(&flags, environment.clone().into_iter()).unwrap();
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(
        settings.origins["listen"].1,
        Origin::Environment("SIGNEDAPPROVAL_LISTEN".into())
    );
    let flags = Flags {
        listen: Some("127.0.0.1:3".into()),
        ..flags
    };
    assert_eq!(load(&flags, environment.into_iter()).unwrap().listen.port(), 3);
}

#[test]
fn secrets_never_stand_in_the_file() {
    let (_dir, flags) = file("[keys]\npassphrase = \"hunter2\"\n");
    let error = load(&flags, std::iter::empty()).unwrap_err().to_string();
    assert!(
        error.contains("is a secret") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_public_url_is_a_name_and_https_but_for_localhost() {
    for (url, good) in [
        ("https://approvals.example", true),
        ("http://localhost:8080", true),
        ("http://approvals.example", false),
        ("https://192.0.2.1", false),
        ("https://approvals.example/path", false),
    ] {
        let flags = Flags {
            public_url: Some(url.into()),
            ..Flags::default()
        };
        assert_eq!(load(&flags, std::iter::empty()).is_ok(), good, "{url}");
    }
    assert!(is_evaluation("http://localhost:8080"));
    assert!(!is_evaluation("https://localhost"));
}

#[test]
fn forges_are_looked_at_every_second_to_every_minute() {
    for (text, good) in [
        ("1", true),
        ("25s", true),
        ("1m", true),
        ("0", false),
        ("61", false),
        ("soon", false),
    ] {
        let environment = [("SIGNEDAPPROVAL_FORGE__LOOK_EVERY".to_owned(), text.to_owned())];
        assert_eq!(
            load(&Flags::default(), environment.into_iter()).is_ok(),
            good,
            "{text}"
        );
    }
    let settings = load(&Flags::default(), std::iter::empty()).unwrap();
    assert_eq!(settings.look_every.as_secs(), 25);
}
