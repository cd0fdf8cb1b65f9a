//! What is sent: entries of the journal, checkpoints, substitutes for what a receiver refuses, tests. Pure.

use crate::domain::sink::SinkFormat;
use crate::domain::time::Time;
use crate::sink::ocsf;
use crate::tlog::leaf_hash;
use serde_json::{Value, json};

/// What is said of the appliance in what it sends.
#[derive(Clone, Debug)]
pub struct About {
    /// UUID, hyphenated.
    pub instance: String,
    /// Host name of the public URL.
    pub host: String,
    /// Version of the program.
    pub version: &'static str,
}

/// One record, ready to be framed. Its JSON is compact, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Journal position; for what is no entry, that of the next one.
    pub seq: u64,
    pub time: Time,
    /// The journal's word for it, or `checkpoint`, `entry.withheld`, `sink.test`.
    pub kind: String,
    pub json: Vec<u8>,
    /// Somebody should look.
    pub warning: bool,
}

impl Record {
    /// An entry of the journal.
    ///
    /// # Errors
    /// When the bytes are no entry.
    pub fn entry(seq: u64, leaf: Vec<u8>, format: SinkFormat, about: &About) -> Result<Record, String> {
        #[derive(serde::Deserialize)]
        struct Head<'a> {
            time: &'a str,
            r#type: &'a str,
        }
        let odd = |e: &dyn std::fmt::Display| format!("journal entry {seq}: {e}");
        let head: Head = serde_json::from_slice(&leaf).map_err(|e| odd(&e))?;
        let time = Time::parse(head.time).ok_or_else(|| odd(&"odd time"))?;
        let kind = head.r#type.to_owned();
        let json = match format {
            SinkFormat::Ocsf => ocsf::event(&leaf, about).ok_or_else(|| odd(&"not readable"))?,
            SinkFormat::Journal => leaf,
        };
        Ok(Record {
            seq,
            time,
            warning: kind.starts_with("exception."),
            kind,
            json,
        })
    }

    /// The signed checkpoint of the first `size` entries.
    pub fn checkpoint(size: u64, note: &str, time: Time, format: SinkFormat, about: &About) -> Record {
        let json = json!({ "v": 1, "type": "checkpoint", "size": size, "checkpoint": note });
        Record::aside(size, "checkpoint", time, &json, false, format, about)
    }

    /// Instead of an entry that the receiver does not take: its position, and the hash by which the log knows it.
    pub fn substitute(
        seq: u64,
        leaf: &[u8],
        time: Time,
        reason: &str,
        format: SinkFormat,
        about: &About,
    ) -> Record {
        let hash = hex::encode(leaf_hash(leaf).0);
        let json =
            json!({ "v": 1, "seq": seq, "type": "entry.withheld", "leaf_hash": hash, "reason": reason });
        Record::aside(seq, "entry.withheld", time, &json, true, format, about)
    }

    /// A message that an admin sends to see whether it arrives.
    pub fn test(next: u64, time: Time, format: SinkFormat, about: &About) -> Record {
        let text = "A test of this log sink. It is no entry of the journal.";
        let json =
            json!({ "v": 1, "type": "sink.test", "time": time, "instance": about.instance, "message": text });
        Record::aside(next, "sink.test", time, &json, false, format, about)
    }

    fn aside(
        seq: u64,
        kind: &str,
        time: Time,
        json: &Value,
        warning: bool,
        format: SinkFormat,
        about: &About,
    ) -> Record {
        let json = match format {
            SinkFormat::Journal => json.to_string(),
            SinkFormat::Ocsf => ocsf::aside(kind, time, json, about).to_string(),
        };
        Record {
            seq,
            time,
            kind: kind.to_owned(),
            json: json.into_bytes(),
            warning,
        }
    }
}

/// The records' JSON as the members of one list.
pub(super) fn list(records: &[Record]) -> Vec<u8> {
    let length: usize = records.iter().map(|it| it.json.len() + 1).sum();
    let mut bytes = Vec::with_capacity(length + 2);
    bytes.push(b'[');
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&record.json);
    }
    bytes.push(b']');
    bytes
}
