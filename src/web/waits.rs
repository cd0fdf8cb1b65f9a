//! Long polls that wait for a request to change. One task reads what the journal grows by and wakes those that wait for
//! just these requests, so that thousands who wait cost nothing while others are decided.

use crate::domain::ids::RequestId;
use crate::engine::Engine;
use crate::store::{self, Snapshot, Store};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;

/// Who waits for which request.
#[derive(Default)]
pub struct Waits {
    waiting: Mutex<HashMap<RequestId, watch::Sender<()>>>,
}

/// One that waits. Its place is given back when it is dropped.
pub struct Wait<'a> {
    waits: &'a Waits,
    request: RequestId,
    word: watch::Receiver<()>,
}

impl Waits {
    /// Waits for a request from now on: what happens after this call wakes it.
    pub fn enter(&self, request: &RequestId) -> Wait<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = waiting
            .entry(request.clone())
            .or_insert_with(|| watch::channel(()).0);
        Wait {
            waits: self,
            request: request.clone(),
            word: sender.subscribe(),
        }
    }

    fn wake(&self, request: &RequestId) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(request) {
            sender.send_replace(());
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Wakes who waits, for ever.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn run(&self, store: &Store, engine: &Engine) -> Result<(), store::Error> {
        let mut grown = engine.watch_size();
        let mut next = *grown.borrow_and_update();
        while grown.changed().await.is_ok() {
            let size = *grown.borrow_and_update();
            if self.is_empty() {
                next = size;
                continue;
            }
            let snapshot = store.read()?;
            while next < size {
                let entries = snapshot.leaves(next, ENTRIES_MAX)?;
                if entries.is_empty() {
                    break;
                }
                for (seq, leaf) in entries {
                    if let Some(request) = Snapshot::event(&leaf)?.request() {
                        self.wake(request);
                    }
                    next = seq + 1;
                }
            }
        }
        Ok(())
    }
}

impl Wait<'_> {
    /// Ends when something about the request was recorded since the last call, or since it began to wait.
    pub async fn woken(&mut self) {
        // The sender stays as long as somebody waits.
        let _ = self.word.changed().await;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waits.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // This one is still counted.
        if waiting
            .get(&self.request)
            .is_some_and(|it| it.receiver_count() <= 1)
        {
            waiting.remove(&self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_those_who_wait_for_a_request_are_woken_and_places_are_given_back() {
        let waits = Waits::default();
        let (one, other) = (RequestId::from_random([1; 16]), RequestId::from_random([2; 16]));
        let (mut first, mut second, mut third) = (waits.enter(&one), waits.enter(&one), waits.enter(&other));
        waits.wake(&one);
        first.woken().await;
        second.woken().await;
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(10), third.woken()).await;
        assert!(quiet.is_err());
        drop((first, second));
        assert_eq!(waits.waiting.lock().expect("not poisoned").len(), 1);
        drop(third);
        assert!(waits.is_empty());
    }
}
