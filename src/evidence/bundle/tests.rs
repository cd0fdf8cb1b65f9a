//! Checks of the archive's one form. Whole bundles are checked where they are made (`tests/it/bundles.rs`).

use crate::domain::ids::Digest;
use crate::evidence::bundle::is_known;
use crate::evidence::bundle::zip::{Directory, Writer, ZipError};
use proptest::prelude::*;
use std::io::Cursor;

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.add(name, content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn read(bytes: &[u8]) -> Result<Vec<(String, Digest)>, ZipError> {
    let mut source = Cursor::new(bytes);
    let directory = Directory::read(&mut source)?;
    let mut found = Vec::new();
    directory.digest(&mut source, |index, digest| {
        found.push((directory.entries[index].name.to_string(), digest));
    })?;
    Ok(found)
}

#[test]
fn however_it_is_written_the_archive_is_the_same() {
    let at_once = archive(&[("a", b"one"), ("b/c", b"two"), ("d", b"")]);
    let mut writer = Writer::new(Cursor::new(Vec::new()));
    let first = writer.reserve("a", 3).unwrap();
    writer
        .stream::<std::io::Error>("b/c", |out| {
            out.write_all(b"t")?;
            out.write_all(b"wo")
        })
        .unwrap();
    writer.add("d", b"").unwrap();
    writer.fill(first, b"one").unwrap();
    assert!(writer.fill(first, b"four").is_err(), "no other size");
    let digests: Vec<Digest> = writer.entries().map(|(_, digest)| digest).collect();
    assert_eq!(digests, [Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"")]);
    assert_eq!(writer.finish().unwrap().into_inner(), at_once);
    assert_eq!(read(&at_once).unwrap().len(), 3);
}

#[test]
fn no_byte_of_an_archive_can_be_changed() {
    let bytes = archive(&[
        ("README.txt", b"hello"),
        ("events.jsonl", b"{}\n"),
        ("log/x", b""),
    ]);
    assert!(read(&bytes).is_ok());
    for at in 0..bytes.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bent = bytes.clone();
            bent[at] ^= bit;
            assert!(
                read(&bent).is_err(),
                "byte {at} flipped by {bit:#x} is not noticed"
            );
        }
    }
    for cut in 0..bytes.len() {
        assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(read(&[&bytes[..], b"\0"].concat()).is_err());
    assert!(read(&[b"\0", &bytes[..]].concat()).is_err());
}

#[test]
fn sixty_five_thousand_files_need_the_wide_end_and_are_read() {
    let mut writer = Writer::new(Cursor::new(Vec::new()));
    for number in 0..65_535 {
        writer.add(&format!("f{number:05}"), b"").unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(read(&bytes).unwrap().len(), 65_535);
    let end = bytes.len() - 98;
    for at in end..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(read(&bent).is_err(), "byte {at} of the end");
    }
}

#[test]
fn only_the_layout_is_known() {
    let digest = "0123456789abcdef".repeat(4);
    for good in [
        "README.txt".to_owned(),
        format!("blobs/{digest}"),
        format!("credentials/crd_{digest}.tlog-proof"),
        format!("outcomes/apr_{}.dsse.json", &digest[..32]),
        "keys/credential-0123456789abcdef.pem".to_owned(),
        "schema/event.json".to_owned(),
    ] {
        assert!(is_known(&good), "{good}");
    }
    for bad in [
        "../README.txt",
        "/README.txt",
        "blobs/../x",
        "blobs/",
        "schema/../../x.json",
        "schema/a\\b.json",
        "readme.txt",
        "credentials/crd_00.dsse.json",
        "keys/credential-.pem",
    ] {
        assert!(!is_known(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), tail in 0..3_usize) {
        let mut bytes = bytes;
        if tail > 0 {
            bytes.extend_from_slice(&archive(&[("a", b"x")])[30 * (tail - 1)..]);
        }
        let _ = read(&bytes);
    }
}
