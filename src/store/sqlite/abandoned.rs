//! Leases that nobody came for. A claim's caller may stop waiting (a stop, a timeout) after the claim is durable; its
//! leases would then stay in flight for as long as this process lives. They are collected here and given back.

use std::sync::{Arc, Mutex, PoisonError};

use super::fault::Fault;
use super::lanes;
use super::record::Record;
use super::writer::Tx;
use crate::lifecycle::State;

/// A lease, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its event.
    pub event: i64,
    /// Its target.
    pub target: i64,
    /// Its token.
    pub token: i64,
}

/// The leases to give back. Filled by claims that are dropped, emptied by the writer thread with its next transaction,
/// at the latest with the next tick.
#[derive(Debug, Default)]
pub struct Abandoned(Mutex<Vec<Key>>);

impl Abandoned {
    /// Takes all of them.
    pub fn take(&self) -> Vec<Key> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds some.
    pub fn put_back(&self, keys: Vec<Key>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }
}

/// A claim's result on its way to its caller: abandoned unless it arrives.
#[derive(Debug)]
pub struct Handover<T> {
    content: Option<T>,
    keys: Vec<Key>,
    abandoned: Arc<Abandoned>,
}

impl<T> Handover<T> {
    /// `content` with the leases in it.
    pub fn new(content: T, keys: Vec<Key>, abandoned: &Arc<Abandoned>) -> Self {
        Self { content: Some(content), keys, abandoned: Arc::clone(abandoned) }
    }

    /// It has arrived.
    pub fn accept(mut self) -> Option<T> {
        self.keys.clear();
        self.content.take()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.abandoned.put_back(std::mem::take(&mut self.keys));
        }
    }
}

/// Gives leases back; those that are not held any more, or never came to be, are passed over.
///
/// # Errors
/// Where SQLite fails.
pub fn give_back(tx: &mut Tx<'_>, keys: &[Key]) -> Result<(), Fault> {
    for key in keys {
        let Some(mut record) = Record::load(tx.conn, key.event, key.target)? else { continue };
        if record.state() == State::InFlight && record.token == key.token {
            record.give_back(tx.now)?;
            record.save(tx.conn)?;
            lanes::release_ended(tx, &record)?;
            tx.notes.ring();
        }
    }
    Ok(())
}
