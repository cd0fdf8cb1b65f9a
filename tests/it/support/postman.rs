//! A mail server (RFC 5321) that takes every mail, or refuses every mail with words of the test's.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Shared {
    refusal: Mutex<Option<String>>,
    mails: Mutex<Vec<String>>,
}

/// A running one, on a port of this machine, without TLS.
pub struct Postman {
    port: u16,
    shared: Arc<Shared>,
}

impl Postman {
    pub async fn start() -> Postman {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Postman { port, shared }
    }

    /// The members of the settings by which the appliance calls it.
    pub fn settings(&self) -> Value {
        json!({"host": "127.0.0.1", "port": self.port, "tls": "none", "from": "gate@example.com"})
    }

    /// From now on every mail is refused with these words, after its code.
    pub fn refuse(&self, words: &str) {
        *self.shared.refusal.lock().expect("no panic") = Some(words.to_owned());
    }

    /// From now on every mail is taken.
    pub fn take(&self) {
        *self.shared.refusal.lock().expect("no panic") = None;
    }

    /// What it has taken.
    pub fn mails(&self) -> Vec<String> {
        self.shared.mails.lock().expect("no panic").clone()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut mail: Option<String> = None;
    let mut answer = "220 postman.example".to_owned();
    loop {
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() || answer.starts_with("221") {
            return;
        }
        answer = loop {
            let Ok(Some(line)) = lines.next_line().await else {
                return;
            };
            if let Some(text) = &mut mail {
                if line != "." {
                    text.push_str(&line);
                    text.push('\n');
                    continue;
                }
                shared.mails.lock().expect("no panic").extend(mail.take());
                break "250 taken".to_owned();
            }
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            let refusal = shared.refusal.lock().expect("no panic").clone();
            break match (verb.as_str(), refusal) {
                ("MAIL", Some(words)) => format!("550 5.7.1 {words}"),
                ("DATA", _) => {
                    mail = Some(String::new());
                    "354 go on".to_owned()
                }
                ("QUIT", _) => "221 bye".to_owned(),
                _ => "250 postman.example".to_owned(),
            };
        };
    }
}
