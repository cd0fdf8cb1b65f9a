//! A bundle's archive as its verifier reads it: by name, by line, each piece bounded.

use crate::domain::ids::Digest;
use crate::evidence::bundle::zip::{Directory, ZipError};
use std::io::{Read, Seek, SeekFrom};

/// Longest line of `events.jsonl`: the longest leaf.
const LINE_BYTES_MAX: usize = crate::evidence::leaf::LEAF_BYTES_MAX;
/// Bytes read at once.
const CHUNK: usize = 1 << 17;

/// The archive, its directory read and every entry's digest known.
pub struct Archive<'s, S> {
    pub source: &'s mut S,
    pub directory: Directory,
    /// In the directory's order.
    pub digests: Vec<Digest>,
}

impl<S: Read + Seek> Archive<'_, S> {
    /// A file of at most `bytes_max`; `None` where there is none.
    ///
    /// # Errors
    /// When it is larger or can't be read.
    pub fn file(&mut self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ZipError> {
        match self.directory.find(name) {
            None => Ok(None),
            Some(index) => self.directory.contents(self.source, index, bytes_max).map(Some),
        }
    }

    /// The digest of a file; `None` where there is none.
    pub fn digest(&self, name: &str) -> Option<Digest> {
        self.directory.find(name).map(|it| self.digests[it])
    }

    /// The lines of a file, each ended by a newline.
    pub fn lines(&self, name: &str) -> Option<Lines> {
        let entry = &self.directory.entries[self.directory.find(name)?];
        Some(Lines {
            at: entry.content(),
            end: entry.end(),
            buffer: Vec::new(),
            begin: 0,
        })
    }
}

/// Reads a file line by line, leaving the source free to be read elsewhere in between.
pub struct Lines {
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    begin: usize,
}

impl Lines {
    /// The next line without its newline; `None` at the end.
    ///
    /// # Errors
    /// `Form` for a line that is too long or lacks its newline.
    pub fn next(&mut self, source: &mut (impl Read + Seek)) -> Result<Option<&[u8]>, ZipError> {
        loop {
            let unread = &self.buffer[self.begin..];
            if let Some(length) = unread.iter().position(|it| *it == b'\n') {
                let begin = self.begin;
                self.begin += length + 1;
                return Ok(Some(&self.buffer[begin..begin + length]));
            }
            if unread.len() > LINE_BYTES_MAX {
                return Err(ZipError::Form("a line is longer than any may be".into()));
            }
            if self.at == self.end {
                return match unread.is_empty() {
                    true => Ok(None),
                    false => Err(ZipError::Form("the last line has no end".into())),
                };
            }
            self.buffer.drain(..self.begin);
            self.begin = 0;
            let take = CHUNK.min(usize::try_from(self.end - self.at).unwrap_or(CHUNK));
            let filled = self.buffer.len();
            self.buffer.resize(filled + take, 0);
            source.seek(SeekFrom::Start(self.at))?;
            source.read_exact(&mut self.buffer[filled..])?;
            self.at += take as u64;
        }
    }
}
