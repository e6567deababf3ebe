//! What opening a store does before anyone may use it: a new boot begins, and what the last holder of the file had in
//! flight is taken over. The lock on the file proves that this holder is gone.

use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use crate::clock::Timestamp;
use crate::lifecycle::{Cause, TakenOver};

use super::OpenError;
use super::abandoned::Abandoned;
use super::fault::Fault;
use super::lanes;
use super::notes::{Notes, Rules};
use super::record::{Record, columns};
use super::targets::{self, Standing};
use super::writer::Tx;

/// Takes over, and reads what the writer thread must remember.
///
/// # Errors
/// Where SQLite fails or a row cannot be understood.
pub fn boot(conn: &mut Connection, rules: &Rules, now: Timestamp) -> Result<Notes, OpenError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut notes = Notes::load(&transaction)?;
    let abandoned = Arc::<Abandoned>::default(); // nobody claims yet
    let mut tx = Tx { conn: &transaction, now, rules, notes: &mut notes, abandoned: &abandoned };
    let taken_over = take_over(&mut tx).map_err(|fault| match fault {
        Fault::Sql(error) => OpenError::from(error),
        Fault::Unreadable(_) | Fault::NoArrow { .. } | Fault::Shared(_) | Fault::Panicked => {
            OpenError::Corrupt(fault.into())
        }
    })?;
    transaction.commit()?;
    if taken_over > 0 {
        tracing::warn!(
            deliveries = taken_over,
            "the last relay died with deliveries in flight: they are taken over"
        );
    }
    Ok(notes)
}

/// Counts no attempt: whether one was made died with the last relay.
fn take_over(tx: &mut Tx<'_>) -> Result<usize, Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_open WHERE d.target = ?1 AND d.state = 1 AND d.state < 6"
    );
    let mut taken_over = 0;
    for target in targets::all(tx.conn)? {
        let found = Record::list(tx.conn, SQL, [target.num])?;
        taken_over += found.len();
        for mut record in found {
            record.give_back(tx.now)?;
            record.progress.takeovers = record.progress.takeovers.saturating_add(1);
            record.progress.taken_over = TakenOver::Yes;
            if target.standing == Standing::Forgotten && !record.state().is_ended() {
                record.go(Cause::Discarded, tx.now)?;
            }
            record.save(tx.conn)?;
            lanes::release_ended(tx, &record)?;
        }
    }
    Ok(taken_over)
}
