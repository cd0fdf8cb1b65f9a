//! What an auditor takes away: a period of the journal chosen, summed up and written as one signed bundle. It reads what
//! was committed and never decides, appends or signs; whoever calls it brings the signature.

pub mod chart;
mod csv;
mod daily;
mod erasable;
mod export;
mod gates;
mod keys;
mod overview;
mod remains;
mod report;
mod select;
mod story;
mod summary;
mod timeline;

pub use csv::cell;
pub use daily::{AROUND, Daily, DayLine, Figures};
pub use erasable::{Erasable, erasable};
pub use export::{Export, Made, export};
pub use overview::overview;
pub use select::{Filter, Order, Range, first_at, range};
pub use story::Story;
pub use summary::{ENDINGS, SPANS, Summary};
pub use timeline::{Sought, Timeline};

use crate::domain::state::Fault;
use crate::store;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal has nothing before the end of the period.
    #[error("the journal has no entry before the end of this period")]
    Empty,
    /// The caller wants it no more.
    #[error("it was called off")]
    CalledOff,
    /// The signing key can't be used.
    #[error("the signing key can't be used: {0}")]
    Sealed(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the bundle can't be written: {0}")]
    Io(#[from] std::io::Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Store(fault.into())
    }
}

/// What should be there and is not.
fn damaged(what: impl Into<String>) -> Error {
    Error::Store(store::Error::Damaged(what.into()))
}
