//! The one form a bundle's ZIP has: entries stored, sorted by name, behind each other from the first byte on, with fixed
//! times and modes, and nothing else in the file. So every byte of the archive follows from names and contents, and the
//! reader refuses whatever is not what the writer would have written: nothing compressed, hidden, overlapping or doubled.
//! (PKWARE APPNOTE 6.3; ZIP64 only where a number needs it.)

use crate::domain::ids::Digest;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;
use std::io::{Read, Seek, SeekFrom, Write};

/// Longest name of an entry, in bytes; none of ours comes near.
pub const NAME_BYTES_MAX: usize = 200;
/// Most entries of an archive that is read: about a million decisions. Each costs some memory.
pub const ENTRIES_MAX: u64 = 5_000_000;
/// Largest entry, in bytes: one more and its size would need another form of header.
pub const ENTRY_BYTES_MAX: u64 = 0xffff_fffe;

/// 1 January 1980, 00:00, the first instant a ZIP can name.
const DATE: u16 = 0x0021;
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;
/// Made by version 4.5 on Unix.
const MADE_BY: u16 = (3 << 8) | 45;
/// A plain file, mode 0644.
const ATTRIBUTES: u32 = 0o100_644 << 16;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Box<str>,
    pub crc: u32,
    pub size: u64,
    /// Where its local header begins.
    pub offset: u64,
}

impl Entry {
    /// Where its contents begin.
    pub fn content(&self) -> u64 {
        self.offset + LOCAL_BYTES as u64 + self.name.len() as u64
    }

    /// Where the next entry begins.
    pub fn end(&self) -> u64 {
        self.content() + self.size
    }
}

fn size32(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The bytes before an entry's contents.
fn local_header(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(LOCAL_BYTES + entry.name.len());
    out.extend_from_slice(b"PK\x03\x04");
    out.extend_from_slice(&20_u16.to_le_bytes());
    // No flag, stored, midnight.
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&DATE.to_le_bytes());
    out.extend_from_slice(&entry.crc.to_le_bytes());
    out.extend_from_slice(&size32(entry.size).to_le_bytes());
    out.extend_from_slice(&size32(entry.size).to_le_bytes());
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(entry.name.as_bytes());
    out
}

/// The entry's record in the directory at the end.
fn central_header(entry: &Entry) -> Vec<u8> {
    let far = entry.offset >= u64::from(u32::MAX);
    let mut out = Vec::with_capacity(CENTRAL_BYTES + entry.name.len() + 12);
    out.extend_from_slice(b"PK\x01\x02");
    out.extend_from_slice(&MADE_BY.to_le_bytes());
    out.extend_from_slice(&if far { 45_u16 } else { 20 }.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&DATE.to_le_bytes());
    out.extend_from_slice(&entry.crc.to_le_bytes());
    out.extend_from_slice(&size32(entry.size).to_le_bytes());
    out.extend_from_slice(&size32(entry.size).to_le_bytes());
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(&if far { 12_u16 } else { 0 }.to_le_bytes());
    // No comment, first disk, no internal attributes.
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&ATTRIBUTES.to_le_bytes());
    out.extend_from_slice(&size32(entry.offset).to_le_bytes());
    out.extend_from_slice(entry.name.as_bytes());
    if far {
        out.extend_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&8_u16.to_le_bytes());
        out.extend_from_slice(&entry.offset.to_le_bytes());
    }
    out
}

/// What stands behind the directory.
fn end_records(count: u64, directory: u64, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let far = count >= 0xffff || directory >= u64::from(u32::MAX) || length >= u64::from(u32::MAX);
    if far {
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&(END64_BYTES as u64 - 12).to_le_bytes());
        out.extend_from_slice(&MADE_BY.to_le_bytes());
        out.extend_from_slice(&45_u16.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&directory.to_le_bytes());
        out.extend_from_slice(b"PK\x06\x07");
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(directory + length).to_le_bytes());
        out.extend_from_slice(&1_u32.to_le_bytes());
    }
    out.extend_from_slice(b"PK\x05\x06");
    out.extend_from_slice(&[0; 4]);
    let short = if far { u16::MAX } else { count as u16 };
    out.extend_from_slice(&short.to_le_bytes());
    out.extend_from_slice(&short.to_le_bytes());
    out.extend_from_slice(&if far { u32::MAX } else { size32(length) }.to_le_bytes());
    out.extend_from_slice(&if far { u32::MAX } else { size32(directory) }.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}

/// Writes an archive. Names must come in ascending order.
pub struct Writer<W: Write + Seek> {
    out: W,
    at: u64,
    entries: Vec<Entry>,
    /// Digest of each entry's contents; zeros for one whose contents are still to come.
    digests: Vec<Digest>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins at the very start of `out`.
    pub fn new(out: W) -> Self {
        Writer {
            out,
            at: 0,
            entries: Vec::new(),
            digests: Vec::new(),
        }
    }

    /// The entries so far and the digests of their contents.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.entries
            .iter()
            .zip(&self.digests)
            .map(|(entry, digest)| (&*entry.name, *digest))
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Adds an entry whose contents are at hand.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        let entry = self.entry(name, contents.len() as u64, crc32fast::hash(contents))?;
        self.out.write_all(&local_header(&entry))?;
        self.out.write_all(contents)?;
        self.at = entry.end();
        self.entries.push(entry);
        self.digests.push(Digest::of(contents));
        Ok(())
    }

    /// Adds an entry whose contents come in pieces.
    ///
    /// # Errors
    /// When it can't be written, or `fill` says so.
    pub fn stream<E: From<io::Error>>(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let unknown = self.entry(name, 0, 0)?;
        self.out.write_all(&local_header(&unknown))?;
        let mut pieces = Pieces {
            out: &mut self.out,
            crc: crc32fast::Hasher::new(),
            sha256: Sha256::new(),
            size: 0,
        };
        fill(&mut pieces)?;
        let (crc, size) = (pieces.crc.finalize(), pieces.size);
        let digest = Digest(pieces.sha256.finalize().into());
        let entry = self.entry(name, size, crc)?;
        self.patch(&entry)?;
        self.at = entry.end();
        self.entries.push(entry);
        self.digests.push(digest);
        Ok(())
    }

    /// Keeps room for an entry of exactly `size` bytes; `fill` brings its contents later.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn reserve(&mut self, name: &str, size: u64) -> io::Result<usize> {
        let entry = self.entry(name, size, 0)?;
        self.out.write_all(&local_header(&entry))?;
        io::copy(&mut io::repeat(0).take(size), &mut self.out)?;
        self.at = entry.end();
        self.entries.push(entry);
        self.digests.push(Digest([0; 32]));
        Ok(self.entries.len() - 1)
    }

    /// The contents of an entry that room was kept for.
    ///
    /// # Errors
    /// When it can't be written, or the contents are longer or shorter than announced.
    pub fn fill(&mut self, index: usize, contents: &[u8]) -> io::Result<()> {
        let entry = &mut self.entries[index];
        if entry.size != contents.len() as u64 {
            return Err(io::Error::other(format!(
                "{} is {} bytes long, and room was kept for {}",
                entry.name,
                contents.len(),
                entry.size
            )));
        }
        entry.crc = crc32fast::hash(contents);
        let entry = entry.clone();
        self.digests[index] = Digest::of(contents);
        self.out.seek(SeekFrom::Start(entry.content()))?;
        self.out.write_all(contents)?;
        self.patch(&entry)
    }

    /// Writes the directory and gives the file back.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        let directory = self.at;
        let mut length = 0;
        for entry in &self.entries {
            let header = central_header(entry);
            length += header.len() as u64;
            self.out.write_all(&header)?;
        }
        self.out
            .write_all(&end_records(self.entries.len() as u64, directory, length))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&self, name: &str, size: u64, crc: u32) -> io::Result<Entry> {
        assert!(
            name.len() <= NAME_BYTES_MAX
                && self
                    .entries
                    .last()
                    .is_none_or(|it| it.name.as_bytes() < name.as_bytes()),
            "names come in ascending order"
        );
        if size > ENTRY_BYTES_MAX {
            return Err(io::Error::other(format!(
                "{name} would be larger than 4 GiB: export a shorter period"
            )));
        }
        Ok(Entry {
            name: name.into(),
            crc,
            size,
            offset: self.at,
        })
    }

    /// Writes an entry's local header anew, now that size and checksum are known, and goes back to the end.
    fn patch(&mut self, entry: &Entry) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(entry.offset))?;
        self.out.write_all(&local_header(entry))?;
        self.out.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

struct Pieces<'w, W: Write> {
    out: &'w mut W,
    crc: crc32fast::Hasher,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.crc.update(bytes);
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
        if self.size > ENTRY_BYTES_MAX {
            return Err(io::Error::other(
                "a file would be larger than 4 GiB: export a shorter period",
            ));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why an archive is not read.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    #[error("the file can't be read: {0}")]
    Io(#[from] io::Error),
    /// It is not in the one form; the text says where.
    #[error("{0}")]
    Form(String),
}

fn form<T>(text: impl Into<String>) -> Result<T, ZipError> {
    Err(ZipError::Form(text.into()))
}

/// An archive's directory, read and held against what the writer would have written. Contents are not looked at yet.
pub struct Directory {
    /// In ascending order of their names, without a gap from byte 0 to the directory.
    pub entries: Vec<Entry>,
}

impl Directory {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// `Form` for whatever is not in the one form, `Io` when the file can't be read.
    pub fn read(source: &mut (impl Read + Seek)) -> Result<Directory, ZipError> {
        let length = source.seek(SeekFrom::End(0))?;
        let tail_bytes =
            (END_BYTES + LOCATOR_BYTES + END64_BYTES).min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut tail = vec![0; tail_bytes];
        source.seek(SeekFrom::Start(length - tail_bytes as u64))?;
        source.read_exact(&mut tail)?;
        let (count, directory, size) = ends(&tail)?;
        if count > ENTRIES_MAX {
            return form(format!("it announces {count} files, more than {ENTRIES_MAX}"));
        }
        let ending = end_records(count, directory, size);
        if directory
            .checked_add(size)
            .and_then(|it| it.checked_add(ending.len() as u64))
            != Some(length)
            || !tail.ends_with(&ending)
        {
            return form("its end is not where, or not as, it must be: cut off, added to or changed");
        }
        source.seek(SeekFrom::Start(directory))?;
        let mut reader = io::BufReader::with_capacity(1 << 16, source.by_ref().take(size));
        let mut entries: Vec<Entry> = Vec::new();
        let mut offset = 0;
        for _ in 0..count {
            let entry = read_central(&mut reader, offset)?;
            if entries
                .last()
                .is_some_and(|it| it.name.as_bytes() >= entry.name.as_bytes())
            {
                return form(format!("{} stands twice or out of order", shown(&entry.name)));
            }
            offset = entry.end();
            if offset > directory {
                return form(format!("{} reaches over the end", shown(&entry.name)));
            }
            entries.push(entry);
        }
        if offset != directory || !io::BufRead::fill_buf(&mut reader)?.is_empty() {
            return form("there is something between the files and the directory, or behind it");
        }
        Ok(Directory { entries })
    }

    /// The entry of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries
            .binary_search_by(|it| it.name.as_bytes().cmp(name.as_bytes()))
            .ok()
    }

    /// The names that begin with `prefix`, with their places.
    pub fn below(&self, prefix: &str) -> impl Iterator<Item = (usize, &str)> {
        let first = self
            .entries
            .partition_point(|it| it.name.as_bytes() < prefix.as_bytes());
        let prefix = prefix.to_owned();
        self.entries[first..]
            .iter()
            .take_while(move |it| it.name.starts_with(&prefix))
            .enumerate()
            .map(move |(at, it)| (first + at, &*it.name))
    }

    /// Reads the whole archive once, in order: headers are held against the directory, contents against their checksum.
    /// `told` gets each entry's place and digest.
    ///
    /// # Errors
    /// As `read`.
    pub fn digest(
        &self,
        source: &mut (impl Read + Seek),
        mut told: impl FnMut(usize, Digest),
    ) -> Result<(), ZipError> {
        source.seek(SeekFrom::Start(0))?;
        let mut reader = io::BufReader::with_capacity(1 << 17, source);
        let mut header = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        for (index, entry) in self.entries.iter().enumerate() {
            let expected = local_header(entry);
            header.resize(expected.len(), 0);
            reader.read_exact(&mut header)?;
            if header != expected {
                return form(format!(
                    "the header of {} is not the one it must have",
                    shown(&entry.name)
                ));
            }
            let (mut crc, mut sha256, mut left) = (crc32fast::Hasher::new(), Sha256::new(), entry.size);
            while left > 0 {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                reader.read_exact(&mut buffer[..take])?;
                crc.update(&buffer[..take]);
                sha256.update(&buffer[..take]);
                left -= take as u64;
            }
            if crc.finalize() != entry.crc {
                return form(format!("{} does not match its checksum", shown(&entry.name)));
            }
            told(index, Digest(sha256.finalize().into()));
        }
        Ok(())
    }

    /// An entry's contents, if it has at most `bytes_max`.
    ///
    /// # Errors
    /// `Form` where it is larger.
    pub fn contents(
        &self,
        source: &mut (impl Read + Seek),
        index: usize,
        bytes_max: u64,
    ) -> Result<Vec<u8>, ZipError> {
        let entry = &self.entries[index];
        if entry.size > bytes_max {
            return form(format!("{} is larger than {bytes_max} bytes", shown(&entry.name)));
        }
        source.seek(SeekFrom::Start(entry.content()))?;
        let mut contents = vec![0; usize::try_from(entry.size).unwrap_or(usize::MAX)];
        source.read_exact(&mut contents)?;
        Ok(contents)
    }
}

/// A name for people.
fn shown(name: &str) -> String {
    crate::domain::text::shortened(&crate::domain::text::visible(name), 120)
}

/// Count, place and length of the directory, as the end of the file tells them.
fn ends(tail: &[u8]) -> Result<(u64, u64, u64), ZipError> {
    let Some((before, end)) = tail.split_last_chunk::<END_BYTES>() else {
        return form("it is too short for a ZIP");
    };
    if !end.starts_with(b"PK\x05\x06") {
        return form("it does not end as a ZIP without a comment does");
    }
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([end[at], end[at + 1]]));
    let u32_at = |at: usize| {
        u64::from(u32::from_le_bytes([
            end[at],
            end[at + 1],
            end[at + 2],
            end[at + 3],
        ]))
    };
    let near = (u16_at(10), u32_at(16), u32_at(12));
    if near != (0xffff, u64::from(u32::MAX), u64::from(u32::MAX)) {
        return Ok(near);
    }
    let Some(wide) = before
        .len()
        .checked_sub(END64_BYTES + LOCATOR_BYTES)
        .and_then(|at| before[at..].first_chunk::<END64_BYTES>())
    else {
        return form("its ZIP64 end is missing");
    };
    let u64_at = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&wide[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    Ok((u64_at(32), u64_at(48), u64_at(40)))
}

/// Reads one record of the directory, whose entry must begin at `offset`.
fn read_central(reader: &mut impl Read, offset: u64) -> Result<Entry, ZipError> {
    let mut fixed = [0; CENTRAL_BYTES];
    if reader.read_exact(&mut fixed).is_err() {
        return form("its directory is shorter than it announces");
    }
    let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let name_bytes = usize::from(u16_at(28));
    if name_bytes == 0 || name_bytes > NAME_BYTES_MAX {
        return form("a name in its directory is empty or too long");
    }
    let mut name = vec![0; name_bytes];
    if reader.read_exact(&mut name).is_err() {
        return form("its directory is shorter than it announces");
    }
    let Ok(name) = String::from_utf8(name) else {
        return form("a name in its directory is not text");
    };
    if u16_at(10) != 0 {
        return form(format!(
            "{} is compressed; a bundle's files are stored as they are, so this is not unpacked",
            shown(&name)
        ));
    }
    let entry = Entry {
        crc: u32_at(16),
        size: u64::from(u32_at(24)),
        name: name.into(),
        offset,
    };
    if entry.size > ENTRY_BYTES_MAX {
        return form(format!("{} is larger than an entry may be", shown(&entry.name)));
    }
    let expected = central_header(&entry);
    let mut rest = vec![0; expected.len() - CENTRAL_BYTES - name_bytes];
    if reader.read_exact(&mut rest).is_err()
        || expected[..CENTRAL_BYTES] != fixed
        || expected[CENTRAL_BYTES + name_bytes..] != rest
    {
        return form(format!(
            "the directory's record of {} is not the one it must have",
            shown(&entry.name)
        ));
    }
    Ok(entry)
}
