//! Mail by the organisation's own server, with TLS. A link and a line of text; nothing is ever approved from a mail.

use crate::notify::{Message, Told};
use crate::outbound::{Outcome, Secret};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Letter, Tokio1Executor};
use std::time::Duration;

/// Every step with a mail server has to be done within this.
const LIMIT: Duration = Duration::from_secs(20);

/// How to reach the mail server.
pub struct MailServer<'a> {
    pub host: &'a str,
    pub port: u16,
    /// TLS from the first byte; else by STARTTLS, and no mail without it.
    pub implicit_tls: bool,
    /// Without TLS at all.
    pub plain: bool,
    pub login: Option<(&'a str, &'a Secret)>,
    /// Further roots, PEM.
    pub ca_pem: Option<&'a str>,
    pub from: &'a str,
    /// What we call ourselves.
    pub hello: &'a str,
}

/// Sends one mail.
pub async fn send_mail(server: &MailServer<'_>, to: &str, message: &Message) -> Told {
    let letter = match letter(server, to, message) {
        Ok(letter) => letter,
        Err(reason) => return Told::rejected(reason),
    };
    let transport = match transport(server) {
        Ok(transport) => transport,
        Err(reason) => return Told::rejected(reason),
    };
    let sending = tokio::time::timeout(LIMIT, transport.send(letter)).await;
    match sending {
        Err(_) => Told::By(Outcome::Retry {
            after: None,
            reason: format!("{} did not answer in time", server.host),
        }),
        Ok(Ok(_)) => Told::By(Outcome::Delivered(())),
        Ok(Err(error)) => {
            let mut reason = format!("{}: {error}", server.host);
            // Some kinds of errors tell their cause themselves.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            if let Some(cause) = cause.filter(|it| !reason.contains(it)) {
                reason = format!("{reason}: {cause}");
            }
            if let Some((_, password)) = server.login {
                reason = reason.replace(password.expose(), "[secret]");
            }
            // 5yz is for good (RFC 5321, section 4.2.1); everything else may pass.
            match error.is_permanent() {
                true => Told::rejected(reason),
                false => Told::By(Outcome::Retry { after: None, reason }),
            }
        }
    }
}

fn letter(server: &MailServer<'_>, to: &str, message: &Message) -> Result<Letter, String> {
    let from: Mailbox = server.from.parse().map_err(|e| format!("the sender: {e}"))?;
    let to: Mailbox = to.parse().map_err(|e| format!("the address: {e}"))?;
    let body = format!(
        "{}\r\n\r\nLook and decide here:\r\n{}\r\n\r\nNothing can be approved by answering or by a link in a mail: each \
         decision is made with your passkey, on the page.\r\n",
        message.body, message.url
    );
    Letter::builder()
        .from(from)
        .to(to)
        .subject(&message.title)
        // No out-of-office answers (RFC 3834), and no others by programs.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN)
        .body(body)
        .map_err(|e| e.to_string())
}

fn transport(server: &MailServer<'_>) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host)
        .port(server.port)
        .hello_name(ClientId::Domain(server.hello.to_owned()))
        .timeout(Some(LIMIT));
    if !server.plain {
        let mut tls = TlsParameters::builder(server.host.to_owned());
        if let Some(pem) = server.ca_pem {
            let certificate = Certificate::from_pem(pem.as_bytes()).map_err(|e| e.to_string())?;
            tls = tls.add_root_certificate(certificate);
        }
        let tls = tls.build_rustls().map_err(|e| e.to_string())?;
        builder = builder.tls(match server.implicit_tls {
            true => Tls::Wrapper(tls),
            false => Tls::Required(tls),
        });
    }
    if let Some((name, password)) = server.login {
        builder = builder.credentials(Credentials::new(name.to_owned(), password.expose().to_owned()));
    }
    Ok(builder.build())
}
