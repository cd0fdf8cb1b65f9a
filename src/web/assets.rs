//! The files in `assets/static`, compiled in. Serves nothing else: a name is looked up, never opened.

use crate::texts::t;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

/// Every file a page may ask for.
#[derive(RustEmbed)]
#[folder = "assets/static"]
struct Files;

/// Hex digits of the file's digest in its URL: enough to tell two releases apart.
const VERSION_DIGITS: usize = 16;

/// What a browser may do with a file whose URL names its content: keep it for a year and never ask again.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// With any other URL it has to ask whether the file is still the same.
const ASK_AGAIN: &str = "no-cache";

/// The URL of a file, with the digest of its content in the query, so that a new release is a new URL.
pub fn url(name: &str) -> String {
    match Files::get(name) {
        Some(file) => format!("/static/{name}?v={}", version(&file)),
        None => format!("/static/{name}"),
    }
}

/// `GET /static/{file}`: anybody.
pub async fn serve_asset(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    answer(&request, &name)
}

/// `GET /schema/policy.json`: anybody. The form of a policy document, for editors.
pub async fn serve_policy_schema(request: HttpRequest) -> HttpResponse {
    answer(&request, "policy.schema.json")
}

/// `GET /manifest.webmanifest`: anybody. At the root, so that its scope covers the whole site.
pub async fn serve_manifest(request: HttpRequest) -> HttpResponse {
    answer(&request, "manifest.webmanifest")
}

/// `GET /favicon.ico`: anybody. Browsers ask for it without being told to.
pub async fn serve_favicon(request: HttpRequest) -> HttpResponse {
    answer(&request, "icon.svg")
}

/// What the service worker keeps for when there is no network: style, scripts and signs, never a page about a request.
const SHELL: &[&str] = &["app.css", "app.js", "icon.svg", "icon-192.png", "icon-180.png"];

/// `GET /sw.js`: anybody. At the root, so that it answers for the whole site. Its first lines name the shell's files by
/// their content, so that browsers fetch the worker anew with each release, and hold its texts in the language of who asks.
pub async fn serve_worker() -> HttpResponse {
    let Some(file) = Files::get("sw.js") else {
        return HttpResponse::NotFound().finish();
    };
    let shell: Vec<String> = SHELL
        .iter()
        .map(|it| url(it))
        .chain(["/offline".to_owned()])
        .collect();
    let list = serde_json::to_string(&shell).unwrap_or_default();
    let words = serde_json::json!({"waits": t!("An approval may wait for you"), "open": t!("Open")});
    let head = format!("const SHELL = {list};\nconst WORDS = {words};\n");
    let body = [head.as_bytes(), &file.data].concat();
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type("sw.js")))
        .insert_header((header::CACHE_CONTROL, ASK_AGAIN))
        .body(body)
}

fn answer(request: &HttpRequest, name: &str) -> HttpResponse {
    let Some(file) = Files::get(name) else {
        return crate::web::pages::error_page(
            StatusCode::NOT_FOUND,
            t!("There is no such file"),
            t!("Check the address."),
        );
    };
    let version = version(&file);
    let small = packed().get(name).filter(|_| takes_gzip(request));
    // Two forms of a file are two representations: each has a tag of its own (RFC 9110, 8.8.3).
    let tag = format!("\"{version}{}\"", if small.is_some() { "-gzip" } else { "" });
    let named = request.query_string().strip_prefix("v=") == Some(version.as_str());
    let caching = if named { FOR_EVER } else { ASK_AGAIN };
    let mut response = if holds(request, &tag) {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag.clone()))
        .insert_header((header::CACHE_CONTROL, caching))
        .insert_header((header::VARY, "accept-encoding"));
    if holds(request, &tag) {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, content_type(name)));
    if let Some(small) = small {
        return response
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .body(small.clone());
    }
    response.body(match file.data {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => web::Bytes::from(bytes),
    })
}

/// The files that are smaller as gzip, packed once. They are the same for everybody and hold no secret, so that their size
/// tells nothing; pages, which do, are never packed (the attack called BREACH).
fn packed() -> &'static BTreeMap<String, web::Bytes> {
    static PACKED: LazyLock<BTreeMap<String, web::Bytes>> = LazyLock::new(|| {
        let texts = Files::iter().filter(|name| !name.ends_with(".png"));
        texts
            .filter_map(|name| {
                let file = Files::get(&name)?;
                let mut out = GzEncoder::new(Vec::new(), Compression::best());
                out.write_all(&file.data).ok()?;
                let small = out.finish().ok().filter(|it| it.len() < file.data.len())?;
                Some((name.into_owned(), web::Bytes::from(small)))
            })
            .collect()
    });
    &PACKED
}

/// RFC 9110, 12.5.3: named, and not with the weight 0.
fn takes_gzip(request: &HttpRequest) -> bool {
    let lines = request.headers().get_all(header::ACCEPT_ENCODING);
    lines
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|it| {
            let mut parts = it.split(';').map(str::trim);
            let named = parts.next().is_some_and(|it| it.eq_ignore_ascii_case("gzip"));
            let weight = parts.find_map(|it| it.strip_prefix("q="));
            named && weight.is_none_or(|it| it.parse::<f32>().is_ok_and(|it| it > 0.0))
        })
}

fn version(file: &rust_embed::EmbeddedFile) -> String {
    let mut digits = hex::encode(file.metadata.sha256_hash());
    digits.truncate(VERSION_DIGITS);
    digits
}

/// RFC 9110, 13.1.2: a list of tags, weak ones equal to strong ones, or `*`.
fn holds(request: &HttpRequest, tag: &str) -> bool {
    let Some(known) = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|it| it.to_str().ok())
    else {
        return false;
    };
    known
        .split(',')
        .map(str::trim)
        .any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == tag)
}

/// By the ending alone: the files are our own, and `nosniff` holds browsers to it.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json") => "application/schema+json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn every_file_has_a_type_of_its_own() {
        for name in Files::iter() {
            assert_ne!(content_type(&name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn a_url_with_the_digest_is_kept_for_ever_and_another_is_not() {
        let query = url("app.css");
        let named = TestRequest::with_uri(&query).to_http_request();
        let answer_named = answer(&named, "app.css");
        assert_eq!(
            answer_named.headers().get(header::CACHE_CONTROL).expect("set"),
            FOR_EVER
        );
        let plain = TestRequest::with_uri("/static/app.css?v=0").to_http_request();
        assert_eq!(
            answer(&plain, "app.css")
                .headers()
                .get(header::CACHE_CONTROL)
                .expect("set"),
            ASK_AGAIN
        );
    }

    #[test]
    fn a_browser_that_takes_gzip_gets_it_and_no_other_does() {
        let ask = |accepts: &'static str| {
            let request = TestRequest::default().insert_header((header::ACCEPT_ENCODING, accepts));
            answer(&request.to_http_request(), "app.css")
        };
        let tag = |it: &HttpResponse| it.headers().get(header::ETAG).cloned();
        let plain = ask("br, gzip;q=0");
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        for accepts in ["gzip", "br, GZIP;q=0.5", "deflate, gzip, br"] {
            let small = ask(accepts);
            let encoding = small.headers().get(header::CONTENT_ENCODING);
            assert_eq!(encoding.expect("set"), "gzip", "{accepts}");
            assert_eq!(small.headers().get(header::VARY).expect("set"), "accept-encoding");
            assert_ne!(tag(&small), tag(&plain), "two forms, two tags");
        }
        let mut back = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&packed()["app.css"][..]);
        std::io::Read::read_to_end(&mut reader, &mut back).expect("gzip");
        assert_eq!(back[..], Files::get("app.css").expect("a file").data[..]);
        assert!(
            !packed().contains_key("icon-192.png"),
            "a picture is packed as it is"
        );
    }

    #[test]
    fn whoever_holds_the_file_gets_no_second_copy() {
        let first = answer(&TestRequest::default().to_http_request(), "app.js");
        let tag = first.headers().get(header::ETAG).expect("set").clone();
        let again = TestRequest::default()
            .insert_header((header::IF_NONE_MATCH, tag))
            .to_http_request();
        assert_eq!(answer(&again, "app.js").status(), StatusCode::NOT_MODIFIED);
        let other = TestRequest::default()
            .insert_header((header::IF_NONE_MATCH, "\"0\""))
            .to_http_request();
        assert_eq!(answer(&other, "app.js").status(), StatusCode::OK);
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        for name in ["../app.css", "/etc/passwd", "..%2fapp.css", ""] {
            let answer = answer(&TestRequest::default().to_http_request(), name);
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }
}
