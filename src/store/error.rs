//! What can go wrong with the database, named by what the caller can do.

use crate::domain::state::Fault;

/// A failure of the database. None of them is ever retried in this process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the file open.
    #[error("the database is open in another process")]
    InUse,
    /// The file is not what this program wrote, or no longer.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Reading or writing failed; what was being written may or may not be there. Restart and look.
    #[error("the database can't be read or written: {0}")]
    Io(String),
}

impl Error {
    pub(super) fn from_open(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse,
            redb::DatabaseError::Storage(redb::StorageError::Io(e)) => match e.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                    Error::Damaged(e.to_string())
                }
                _ => Error::Io(e.to_string()),
            },
            other => Error::Damaged(other.to_string()),
        }
    }
}

impl From<redb::StorageError> for Error {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Corrupted(what) => Error::Damaged(what),
            other => Error::Io(other.to_string()),
        }
    }
}

impl From<redb::TableError> for Error {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(e) => e.into(),
            other => Error::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Error {
    fn from(error: redb::TransactionError) -> Self {
        Error::Io(error.to_string())
    }
}

impl From<redb::CommitError> for Error {
    fn from(error: redb::CommitError) -> Self {
        Error::Io(error.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault(error.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Damaged(fault.0)
    }
}
