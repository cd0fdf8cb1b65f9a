//! Chats by their incoming webhooks: a line and a link, in the form each of them takes.

use crate::domain::notice::ChatKind;
use crate::notify::{Message, Told};
use crate::outbound::{Call, Client, Method, Outcome, Secret};
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

const LIMIT: Duration = Duration::from_secs(15);

/// A chat's incoming webhook. Who knows it may write there, so it is a secret.
pub struct ChatUrl(pub Secret);

/// Says it in a chat.
pub async fn send_chat(client: &Client, kind: ChatKind, to: &ChatUrl, message: &Message) -> Told {
    let Ok(url) = Url::parse(to.0.expose()) else {
        return Told::rejected("the webhook is not a URL");
    };
    let call = match kind {
        ChatKind::Ntfy => ntfy(url, message),
        _ => Call::new(Method::Post, url).json(&body(kind, message)),
    };
    let call = call.unseen(to.0.clone()).cap(64 * 1024).limit(LIMIT);
    match client.fetch(call).await {
        Ok(_) => Told::By(Outcome::Delivered(())),
        // A webhook that was removed answers so; an admin has to give another one.
        Err(error) => Told::By(error.into_outcome()),
    }
}

fn body(kind: ChatKind, message: &Message) -> Value {
    match kind {
        // Slack's mrkdwn: three characters are control characters ("Formatting text", "Escaping text").
        ChatKind::Slack => {
            let plain = |it: &str| it.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            json!({
                "text": format!("{}: {}\n<{}|Look and decide>", plain(&message.title), plain(&message.body), message.url),
                "unfurl_links": false,
                "unfurl_media": false,
            })
        }
        // "Create incoming webhooks with Workflows": an adaptive card in a message.
        ChatKind::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "TextBlock", "text": marked_down(&message.title), "weight": "Bolder", "wrap": true },
                        { "type": "TextBlock", "text": marked_down(&message.body), "wrap": true },
                    ],
                    "actions": [{ "type": "Action.OpenUrl", "title": "Look and decide", "url": message.url }],
                },
            }],
        }),
        ChatKind::Mattermost | ChatKind::Ntfy => json!({
            "text": format!(
                "**{}**: {}\n[Look and decide]({})",
                marked_down(&message.title), marked_down(&message.body), message.url
            ),
        }),
    }
}

/// ntfy takes the text as the body and the rest as headers ("Publishing").
fn ntfy(url: Url, message: &Message) -> Call {
    // Headers are ASCII; ntfy reads RFC 2047 in them.
    let encoded = |text: &str| {
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD.encode(text);
        format!("=?UTF-8?B?{base64}?=")
    };
    Call::new(Method::Post, url)
        .body("text/plain; charset=utf-8", message.body.clone().into_bytes())
        .header("title", &encoded(&message.title))
        .header("click", &message.url)
        .header("priority", "high")
        .header("tags", "lock")
}

/// Text in which nothing is markup: a title must not become a link or call everybody in the room.
fn marked_down(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '<'
            | '>' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // A zero-width space keeps `@channel` from being a call.
            '@' => out.push_str("@\u{200b}"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            title: "Approval needed".into(),
            body: "!1 → main: [x](https://evil.example) <!channel> @channel & more".into(),
            url: "https://approvals.example/a/apr_0".into(),
            tag: "t".into(),
            ttl_seconds: 60,
            badge: None,
        }
    }

    #[test]
    fn text_from_outside_is_no_markup_in_any_chat() {
        let slack = body(ChatKind::Slack, &message())["text"].to_string();
        assert!(
            slack.contains("&lt;!channel&gt;") && !slack.contains("<!channel>"),
            "{slack}"
        );
        for kind in [ChatKind::Mattermost, ChatKind::Teams] {
            let text = body(kind, &message()).to_string();
            assert!(!text.contains("[x](https://evil.example)"), "{text}");
            assert!(!text.contains("@channel"), "{text}");
        }
    }
}
