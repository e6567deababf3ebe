//! What opening a store does before anyone may use it: a new boot begins, and what the last holder of the file had in
//! flight is taken over. The lock on the file proves that this holder is gone.

use rusqlite::{Connection, TransactionBehavior};

use crate::clock::Timestamp;
use crate::lifecycle::{Cause, TakenOver};

use super::OpenError;
use super::fault::Fault;
use super::notes::Notes;
use super::record::{Record, columns};
use super::targets::{self, Standing};

/// Takes over, and reads what the writer thread must remember.
///
/// # Errors
/// Where SQLite fails or a row cannot be understood.
pub fn boot(conn: &mut Connection, now: Timestamp) -> Result<Notes, OpenError> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let notes = Notes::load(&transaction)?;
    let taken_over = take_over(&transaction, now).map_err(|fault| match fault {
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
fn take_over(conn: &Connection, now: Timestamp) -> Result<usize, Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_open WHERE d.target = ?1 AND d.state = 1 AND d.state < 6"
    );
    let mut taken_over = 0;
    for target in targets::all(conn)? {
        let found = Record::list(conn, SQL, [target.num])?;
        taken_over += found.len();
        for mut record in found {
            record.give_back(now)?;
            record.progress.takeovers = record.progress.takeovers.saturating_add(1);
            record.progress.taken_over = TakenOver::Yes;
            if target.standing == Standing::Forgotten {
                record.go(Cause::Discarded, now)?;
            }
            record.save(conn)?;
        }
    }
    Ok(taken_over)
}
