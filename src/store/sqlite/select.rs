//! Which events and deliveries a query means: keys in order from the index that fits best, then the row behind each
//! key, judged here. Every selection is bounded by the rows it looks at, so that neither a rare type nor a long
//! history makes it slow; where that bound cuts it short it tells where to go on.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use crate::event::TargetName;
use crate::lifecycle::State;
use crate::store::query::{Cursor, DeliveryQuery, DeliveryView};

use super::codes;
use super::fault::Fault;
use super::record::{COLUMN_COUNT, Record, columns};
use super::targets;

/// A key of the delivery table; lists go down from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its event.
    pub event: i64,
    /// Its target.
    pub target: i64,
}

impl Place {
    /// Above all rows.
    pub const TOP: Self = Self { event: i64::MAX, target: i64::MAX };
    /// Below all rows.
    const BOTTOM: Self = Self { event: 0, target: 0 };

    /// The place that `cursor` means; one of another list is below all rows.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn of(conn: &Connection, cursor: Option<&Cursor>) -> Result<Self, Fault> {
        let (id, target) = match cursor {
            None => return Ok(Self::TOP),
            Some(Cursor::Event(id)) => (id, 0),
            Some(Cursor::Delivery(id, name)) => {
                (id, targets::find(conn, name)?.map_or(0, |target| target.num))
            }
            Some(Cursor::Number(_)) => return Ok(Self::BOTTOM),
        };
        Ok(codes::pack(*id).map_or(Self::BOTTOM, |event| Self { event, target }))
    }
}

/// From which side the keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Deliveries that have a record.
    Records,
    /// Every event of the log, as a delivery to this target, whether that has a record or not.
    Log(i64),
}

/// What to select.
#[derive(Debug)]
pub struct Selection<'q> {
    /// Only of this event, where set.
    pub event: Option<i64>,
    /// And of these.
    pub query: &'q DeliveryQuery,
    /// From which side.
    pub from: From,
    /// Strictly below this.
    pub below: Place,
    /// At most this many rows.
    pub rows_max: usize,
    /// After looking at this many.
    pub looked_at_max: usize,
}

/// One selected delivery.
#[derive(Debug)]
pub struct Found {
    /// Its place.
    pub place: Place,
    /// Its record; `None` only where the selection was made from the log.
    pub record: Option<Record>,
    /// Its event's type.
    pub event_type: String,
    /// Whom its event is about.
    pub subject: Option<String>,
    /// Its target's name.
    pub target: TargetName,
}

/// The rows, in descending order, and the place to go on below where more may follow.
pub type Selected = (Vec<Found>, Option<Place>);

/// Selects deliveries.
///
/// # Errors
/// Where SQLite fails.
pub fn select(conn: &Connection, selection: &Selection<'_>) -> Result<Selected, Fault> {
    let target = match &selection.query.target {
        None => None,
        Some(name) => match targets::find(conn, name)? {
            None => return Ok((Vec::new(), None)),
            Some(target) => Some(target.num),
        },
    };
    let (sql, params) = keys(selection);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        if looked_at == selection.looked_at_max || found.len() == selection.rows_max {
            return Ok((found, last));
        }
        let place = Place { event: row.get(0)?, target: row.get(1)? };
        looked_at += 1;
        last = Some(place);
        if target.is_none_or(|num| num == place.target) {
            found.extend(load(conn, place)?.filter(|found| matches(found, selection.query)));
        }
    }
    Ok((found, None))
}

fn matches(found: &Found, query: &DeliveryQuery) -> bool {
    let state_fits = match &found.record {
        Some(record) => query.states.is_empty() || query.states.contains(&record.state()),
        None => query.states.is_empty(),
    };
    state_fits
        && query.event_type.as_ref().is_none_or(|wanted| *wanted == found.event_type)
        && query.subject.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == found.subject.as_deref())
}

/// The delivery at `place` with what people want to know of its event.
///
/// # Errors
/// Where SQLite fails.
pub fn load(conn: &Connection, place: Place) -> Result<Option<Found>, Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        ", e.type, e.subject, t.name FROM event e JOIN target t ON t.num = ?2 \
         LEFT JOIN delivery d ON d.event = e.id AND d.target = t.num WHERE e.id = ?1"
    );
    let mut statement = conn.prepare_cached(SQL)?;
    let found = statement.query_row([place.event, place.target], |row| {
        let has_record = row.get::<_, Option<i64>>(0)?.is_some();
        let record = if has_record { Record::read(row, 0).map(Some) } else { Ok(None) };
        let name: String = row.get(COLUMN_COUNT + 2)?;
        Ok((record, row.get(COLUMN_COUNT)?, row.get(COLUMN_COUNT + 1)?, name))
    });
    let Some((record, event_type, subject, name)) = found.optional()? else { return Ok(None) };
    let target = name.parse().map_err(|_| Fault::Unreadable("name"))?;
    Ok(Some(Found { place, record: record?, event_type, subject, target }))
}

/// The statement that gives the keys, in descending order, lazily.
fn keys(selection: &Selection<'_>) -> (String, Vec<Value>) {
    let query = selection.query;
    let since = query.since.map_or(0, codes::first_at);
    let until = query.until.map_or(i64::MAX, codes::first_at);
    let Place { event, target } = selection.below;
    let mut params: Vec<Value> = vec![event.into(), target.into(), since.into(), until.into()];
    let (index, wanted) = match (selection.event, &query.subject, &query.event_type) {
        (Some(id), _, _) => ("", Some(("e.id", Value::from(id)))),
        (None, Some(subject), _) => {
            ("INDEXED BY event_subject", Some(("e.subject", Value::from(subject.as_str().to_owned()))))
        }
        (None, None, Some(event_type)) if selection.from != From::Records || !is_held_only(&query.states) => {
            ("INDEXED BY event_type", Some(("e.type", Value::from(event_type.clone()))))
        }
        (None, None, Some(_) | None) => ("", None),
    };
    let condition = wanted.map_or(String::new(), |(column, value)| {
        params.push(value);
        format!("AND {column} = ?5")
    });
    let range = "e.id >= ?3 AND e.id < ?4 AND e.id <= ?1";
    let sql = match selection.from {
        From::Log(num) => {
            // A place of the log is one event: below it means strictly older.
            params.push(num.into());
            let num = params.len();
            format!(
                "SELECT e.id, ?{num} FROM event e {index} WHERE {range} AND (e.id < ?1 OR ?{num} < ?2) {condition} \
                 ORDER BY e.id DESC"
            )
        }
        From::Records if !condition.is_empty() => format!(
            "SELECT d.event, d.target FROM event e {index} CROSS JOIN delivery d ON d.event = e.id \
             WHERE {range} AND (d.event, d.target) < (?1, ?2) {condition} ORDER BY e.id DESC, d.target DESC"
        ),
        From::Records => recorded_keys(&query.states),
    };
    (sql, params)
}

/// Keys of records where nothing but their state narrows them down.
fn recorded_keys(states: &[State]) -> String {
    const RANGE: &str = "(event, target) < (?1, ?2) AND event >= ?3 AND event < ?4";
    let held = format!(
        "SELECT event, target FROM delivery INDEXED BY delivery_held WHERE state > 1 AND state < 6 AND {RANGE}"
    );
    let in_flight = format!(
        "SELECT event, target FROM delivery INDEXED BY delivery_open WHERE state = 1 AND state < 6 \
         AND target IN (SELECT num FROM target) AND {RANGE}"
    );
    let keys = if is_held_only(states) {
        held
    } else if states == [State::InFlight] {
        in_flight
    } else if !states.is_empty() && states.iter().all(|state| *state == State::InFlight || is_held(*state)) {
        format!("{held} UNION ALL {in_flight}")
    } else {
        format!("SELECT event, target FROM delivery WHERE {RANGE}")
    };
    format!("{keys} ORDER BY event DESC, target DESC")
}

fn is_held_only(states: &[State]) -> bool {
    !states.is_empty() && states.iter().all(|state| is_held(*state))
}

/// Whether the index of exceptions holds it.
const fn is_held(state: State) -> bool {
    match state {
        State::Queued | State::Waiting | State::Parked | State::Dead => true,
        State::InFlight | State::Delivered | State::Skipped | State::Cancelled => false,
    }
}

impl Found {
    /// What people see, where there is a record.
    pub fn view(self) -> Option<(Record, DeliveryView)> {
        let record = self.record?;
        let due_at = record.state().is_due_some_day().then(|| crate::clock::Timestamp::from_ms(record.due));
        let view = DeliveryView {
            event_id: codes::unpack(self.place.event),
            target: self.target,
            event_type: self.event_type,
            subject: self.subject,
            state: record.state(),
            reason: record.reason.clone(),
            attempts: record.progress.attempts_total,
            last_status: record.status,
            last_error: record.error,
            last_hint: record.hint,
            due_at,
            updated_at: record.updated,
            takeovers: record.progress.takeovers,
        };
        Some((record, view))
    }
}

/// The cursor for a place.
///
/// # Errors
/// Where SQLite fails.
pub fn cursor(conn: &Connection, place: Place) -> Result<Cursor, Fault> {
    let name: Option<String> = conn
        .prepare_cached("SELECT name FROM target WHERE num = ?1")?
        .query_row([place.target], |row| row.get(0))
        .optional()?;
    let name = name.ok_or(Fault::Unreadable("target"))?.parse().map_err(|_| Fault::Unreadable("name"))?;
    Ok(Cursor::Delivery(codes::unpack(place.event), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Subject;
    use crate::store::sqlite::schema;

    fn plan(conn: &Connection, selection: &Selection<'_>) -> Vec<String> {
        let (sql, params) = keys(selection);
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(params_from_iter(params), |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    }

    /// Otherwise one page of a long list would read the whole of it.
    #[test]
    fn keys_come_in_order_from_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.db");
        std::fs::write(&path, "").unwrap();
        let conn = schema::open_writer(&path, None).unwrap();
        let mut checked = 0;
        for states in [vec![], vec![State::Dead], vec![State::Dead, State::InFlight], vec![State::Delivered]]
        {
            for event_type in [None, Some("user.created".to_owned())] {
                for subject in [None, Subject::of("user_1")] {
                    for (event, from) in
                        [(None, From::Records), (Some(7), From::Records), (None, From::Log(1))]
                    {
                        let query = DeliveryQuery {
                            states: states.clone(),
                            event_type: event_type.clone(),
                            subject: subject.clone(),
                            ..DeliveryQuery::default()
                        };
                        let selection = Selection {
                            event,
                            query: &query,
                            from,
                            below: Place::TOP,
                            rows_max: 1,
                            looked_at_max: 1,
                        };
                        let plan = plan(&conn, &selection);
                        // What is in flight is little, and may be sorted.
                        let sorted = plan.iter().any(|step| step.contains("TEMP B-TREE"));
                        assert!(!sorted || states.contains(&State::InFlight), "{query:?}: {plan:?}");
                        assert!(!plan.iter().any(|step| step.starts_with("SCAN e")), "{query:?}: {plan:?}");
                        checked += 1;
                    }
                }
            }
        }
        assert_eq!(checked, 48);
    }
}
