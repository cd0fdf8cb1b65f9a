//! One event of the journal as the exact bytes that are hashed into the log. These bytes are never made twice, and their
//! form never changes once released.

use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError, Value};
use serde::Serialize;

/// Longest leaf, in bytes: what a two-byte length in a log's entry bundle can say (C2SP tlog-tiles).
pub const LEAF_BYTES_MAX: usize = 65_535;

/// Why an event can't be a leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the event is {0} bytes long, more than {LEAF_BYTES_MAX}")]
    TooLong(usize),
    #[error("the event can't be written: {0}")]
    Unwritable(String),
    #[error(transparent)]
    Json(#[from] StrictError),
}

#[derive(Serialize)]
struct LeafForm<'a, A: ?Sized, O: ?Sized, D: ?Sized> {
    v: u32,
    seq: u64,
    time: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    actor: &'a A,
    object: &'a O,
    data: &'a D,
}

/// The bytes of one event: `{"v":1,"seq":N,"time":"…Z","type":"…","actor":{…},"object":{…},"data":{…}}`.
///
/// `seq` is the 0-based index in the log, `time` RFC 3339 in UTC. The three parts may be anything that serialises to
/// an object (`&RawValue` keeps bytes as they are). What the strict reader would refuse is refused here already.
pub fn encode<A, O, D>(
    seq: u64,
    time: &str,
    kind: &str,
    actor: &A,
    object: &O,
    data: &D,
) -> Result<Vec<u8>, LeafError>
where
    A: Serialize + ?Sized,
    O: Serialize + ?Sized,
    D: Serialize + ?Sized,
{
    let form = LeafForm {
        v: 1,
        seq,
        time,
        kind,
        actor,
        object,
        data,
    };
    let bytes = serde_json::to_vec(&form).map_err(|e| LeafError::Unwritable(e.to_string()))?;
    parse(&bytes)?;
    Ok(bytes)
}

/// A leaf as it was read. `actor`, `object` and `data` are objects, with their bytes.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    pub seq: u64,
    /// RFC 3339, UTC.
    pub time: String,
    pub kind: String,
    pub actor: Value<'a>,
    pub object: Value<'a>,
    pub data: Value<'a>,
}

/// Reads a leaf strictly: exactly the known members in their order, compact, version 1.
pub fn parse(bytes: &[u8]) -> Result<Leaf<'_>, LeafError> {
    if bytes.len() > LEAF_BYTES_MAX {
        return Err(LeafError::TooLong(bytes.len()));
    }
    let value = strict::parse(bytes, Space::Refused)?;
    let leaf = value.object("event")?;
    leaf.exactly(&["v", "seq", "time", "type", "actor", "object", "data"])?;
    if leaf.integer("v")? != 1 {
        return Err(StrictError::Shape("the event is of a version that is not known".into()).into());
    }
    for part in ["actor", "object", "data"] {
        leaf.object(part)?;
    }
    Ok(Leaf {
        seq: leaf.count("seq")?,
        time: leaf.time("time")?.0.to_owned(),
        kind: leaf.text("type")?.to_owned(),
        actor: leaf.member("actor")?.clone(),
        object: leaf.member("object")?.clone(),
        data: leaf.member("data")?.clone(),
    })
}
