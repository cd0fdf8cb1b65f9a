//! Finding requests: an index that `apply` keeps beside them, and questions it answers in bounded time, however many
//! requests there are.
//!
//! Requests are numbered in the order they were opened, and [`BLOCK`] of them make a block. For each block and each *term*
//! (a word of the title, a status, an environment) the index has one row: which requests of the block have the term. A
//! question is a list of *clauses*, all of which must hold. It is answered block by block from the newest on: a clause
//! becomes the set of the block's requests that it holds for, and what is in all the sets is found. A block costs a few
//! rows, whether a clause passes over nearly all of its requests or none.
//!
//! What one answer may cost is limited as well. Where the limit is met, the answer says up to where it has looked.

mod find;
mod index;
mod query;
mod set;
#[cfg(test)]
mod tests;
mod words;

pub use find::{Found, More, find};
pub use index::{Facet, known_values, note_changed, note_opened};
pub use query::{Clause, Query};

/// Requests of one block: a set of them is 512 bytes, and a million requests are 245 blocks.
pub const BLOCK: u64 = 4096;
