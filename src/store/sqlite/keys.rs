//! By which index a selection goes: the statement that gives its keys, in descending order, one after the other. Of
//! several indexes that would do, the one with the fewest rows is taken. Knows nothing of what stands behind a key.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::lifecycle::State;
use crate::store::query::DeliveryQuery;

use super::codes;
use super::fault::Fault;
use super::select::{From, Selection};
use super::targets;

/// Rows of an index that are counted to compare it with others: some 0.1 ms. Where all have more, any will do.
const COUNTED_MAX: i64 = 2_000;
/// Places of the index of unfinished and dead deliveries that one statement merges; SQLite takes at most 500.
const MERGED_MAX: usize = 100;

/// A statement that gives event, target and state of one key after the other. Target and state are NULL where an event
/// has no delivery.
pub type Keys = (String, Vec<Value>);

/// A column of the events by which they are found, and what it must be.
#[derive(Debug, Clone)]
pub struct Narrowed {
    /// The clause that makes SQLite use the column's index.
    pub index: &'static str,
    /// The column.
    pub column: &'static str,
    /// What it must be.
    pub value: Value,
}

/// Event ids from, and up to but without.
pub type Range = [i64; 2];

/// The range of event ids that `query` allows.
pub fn range(since: Option<crate::clock::Timestamp>, until: Option<crate::clock::Timestamp>) -> Range {
    [since.map_or(0, codes::first_at), until.map_or(i64::MAX, codes::first_at)]
}

/// By which column events of these properties are found best, and how many there are, as far as they are counted.
///
/// # Errors
/// Where SQLite fails.
pub fn narrowed(
    conn: &Connection, subject: Option<&str>, event_type: Option<&str>, source: Option<&str>, range: Range,
) -> Result<Option<(Narrowed, i64)>, Fault> {
    let by = |index, column, value: &str| Narrowed { index, column, value: value.to_owned().into() };
    if let Some(subject) = subject {
        return Ok(Some((by("INDEXED BY event_subject", "subject", subject), 0)));
    }
    let columns = [
        event_type.map(|event_type| by("INDEXED BY event_type", "type", event_type)),
        source.map(|source| by("INDEXED BY event_source", "source", source)),
    ];
    let mut best: Option<(Narrowed, i64)> = None;
    for narrowed in columns.into_iter().flatten() {
        let Narrowed { index, column, value } = &narrowed;
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM event {index} WHERE {column} = ?1 AND id >= ?2 AND id < ?3 LIMIT ?4)"
        );
        let params = [value.clone(), range[0].into(), range[1].into(), COUNTED_MAX.into()];
        let count = conn.prepare_cached(&sql)?.query_row(params_from_iter(params), |row| row.get(0))?;
        if best.as_ref().is_none_or(|(_, least)| count < *least) {
            best = Some((narrowed, count));
        }
    }
    Ok(best)
}

/// The keys of a selection; `target` is the number of its query's target, where it names one.
///
/// # Errors
/// Where SQLite fails.
pub fn keys(conn: &Connection, selection: &Selection<'_>, target: Option<i64>) -> Result<Keys, Fault> {
    let query = selection.query;
    let [since, until] = range(query.since, query.until);
    // A place without a target is above all deliveries of older events, and below those of its own.
    let below = selection.below;
    let until = until.min(if below.target > 0 { below.event.saturating_add(1) } else { below.event });
    let range = [since, until];
    let narrowed = match selection.event {
        Some(id) => Some((Narrowed { index: "", column: "id", value: id.into() }, 0)),
        None => {
            let source = query.source.as_ref().map(|source| source.as_str());
            let subject = query.subject.as_ref().map(|subject| subject.as_str());
            narrowed(conn, subject, query.event_type.as_deref(), source, range)?
        }
    };
    let params = vec![since.into(), until.into(), below.event.into(), below.target.into()];
    match selection.from {
        From::Log(num) => Ok(of_log(num, narrowed, params)),
        From::Records => {
            let places = open_places(conn, query, target)?;
            let open = places.map(|places| of_places(&places, params.clone()));
            match (narrowed, open) {
                (None, None) => Ok(of_all(params)),
                (None, Some(open)) => Ok(open),
                (Some((narrowed, _)), None) => Ok(of_events(narrowed, params)),
                (Some((narrowed, count)), Some(open)) => {
                    let is_fewer = count > 0 && counted(conn, &open, count)? < count;
                    Ok(if is_fewer { open } else { of_events(narrowed, params) })
                }
            }
        }
    }
}

/// How many keys there are, counted up to `max`.
fn counted(conn: &Connection, (sql, params): &Keys, max: i64) -> Result<i64, Fault> {
    let sql = format!("SELECT count(*) FROM ({sql} LIMIT {max})");
    Ok(conn.prepare_cached(&sql)?.query_row(params_from_iter(params), |row| row.get(0))?)
}

/// Every event, as a delivery to this target.
fn of_log(num: i64, narrowed: Option<(Narrowed, i64)>, mut params: Vec<Value>) -> Keys {
    params.push(num.into());
    let (index, condition) = condition(narrowed.map(|(narrowed, _)| narrowed), &mut params);
    let sql = format!(
        "SELECT e.id, ?5, NULL FROM event e {index} WHERE e.id >= ?1 AND e.id < ?2 AND (e.id < ?3 OR ?5 < ?4) \
         {condition} ORDER BY e.id DESC"
    );
    (sql, params)
}

/// The deliveries of the events that are found by a column. Events without one come too, so that whoever counts what was
/// looked at counts them.
fn of_events(narrowed: Narrowed, mut params: Vec<Value>) -> Keys {
    let (index, condition) = condition(Some(narrowed), &mut params);
    let sql = format!(
        "SELECT e.id, d.target, d.state FROM event e {index} \
         LEFT JOIN delivery d ON d.event = e.id AND (e.id < ?3 OR d.target < ?4) \
         WHERE e.id >= ?1 AND e.id < ?2 {condition} ORDER BY e.id DESC, d.target DESC"
    );
    (sql, params)
}

fn condition(narrowed: Option<Narrowed>, params: &mut Vec<Value>) -> (&'static str, String) {
    let Some(Narrowed { index, column, value }) = narrowed else { return ("", String::new()) };
    params.push(value);
    (index, format!("AND e.{column} = ?{}", params.len()))
}

const BELOW: &str = "(event, target) < (?3, ?4) AND event >= ?1 AND event < ?2";

/// Every delivery that has a record.
fn of_all(params: Vec<Value>) -> Keys {
    let sql =
        format!("SELECT event, target, state FROM delivery WHERE {BELOW} ORDER BY event DESC, target DESC");
    (sql, params)
}

/// The places of the index of unfinished and dead deliveries, each a target and a state, that hold all that `query` asks
/// for; `None` where it asks for others too, or there are too many.
fn open_places(
    conn: &Connection, query: &DeliveryQuery, target: Option<i64>,
) -> Result<Option<Vec<[i64; 2]>>, Fault> {
    if query.states.is_empty() || !query.states.iter().all(|state| is_open(*state)) {
        return Ok(None);
    }
    let targets = match target {
        Some(num) => vec![num],
        None => targets::all(conn)?.into_iter().map(|target| target.num).collect(),
    };
    let mut states: Vec<i64> = query.states.iter().copied().map(codes::state_code).collect();
    states.sort_unstable();
    states.dedup();
    let places: Vec<[i64; 2]> =
        targets.iter().flat_map(|target| states.iter().map(|state| [*target, *state])).collect();
    Ok((1..=MERGED_MAX).contains(&places.len()).then_some(places))
}

/// Whether the index of unfinished and dead deliveries holds it.
const fn is_open(state: State) -> bool {
    match state {
        State::InFlight | State::Queued | State::Waiting | State::Parked | State::Dead => true,
        State::Delivered | State::Skipped | State::Cancelled => false,
    }
}

/// The deliveries at these places; each is in order, and SQLite merges them.
fn of_places(places: &[[i64; 2]], mut params: Vec<Value>) -> Keys {
    let mut parts = Vec::with_capacity(places.len());
    for [target, state] in places {
        params.extend([Value::from(*target), Value::from(*state)]);
        parts.push(format!(
            "SELECT event, target, state FROM delivery INDEXED BY delivery_open \
             WHERE target = ?{} AND state = ?{} AND state < 6 AND {BELOW}",
            params.len() - 1,
            params.len()
        ));
    }
    (format!("{} ORDER BY event DESC, target DESC", parts.join(" UNION ALL ")), params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Subject;
    use crate::lifecycle::Start;
    use crate::store::TargetSpec;
    use crate::store::sqlite::schema;
    use crate::store::sqlite::select::Place;

    fn plan(conn: &Connection, (sql, params): Keys) -> Vec<String> {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(params_from_iter(params), |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    }

    fn store(folder: &tempfile::TempDir) -> Connection {
        let path = folder.path().join("relay.db");
        std::fs::write(&path, "").unwrap();
        let conn = schema::open_writer(&path, None).unwrap();
        for name in ["one", "two"] {
            let spec =
                TargetSpec { name: name.parse().unwrap(), start: Start::Now, url_digest: String::new() };
            conn.execute(
                "INSERT INTO target VALUES (NULL, ?1, 0, NULL, 0, '', 0, 0, 0, NULL, 0, NULL)",
                [spec.name.as_str()],
            )
            .unwrap();
        }
        conn
    }

    /// Otherwise one page of a long list would read the whole of it.
    #[test]
    fn keys_come_in_order_from_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let conn = store(&folder);
        let states = [
            vec![],
            vec![State::Dead],
            vec![State::Dead, State::InFlight, State::Waiting],
            vec![State::Delivered],
        ];
        let sides = [(None, From::Records), (Some(7), From::Records), (None, From::Log(1))];
        let mut checked = 0;
        for number in 0..states.len() * 2 * 2 * 2 * 2 * sides.len() {
            let (event, from) = sides[number % sides.len()];
            let bits = number / sides.len();
            let query = DeliveryQuery {
                event_type: (bits & 1 > 0).then(|| "user.created".to_owned()),
                subject: (bits & 2 > 0).then(|| Subject::of("user_1")).flatten(),
                source: (bits & 4 > 0).then(|| "clerk".parse().unwrap()),
                states: states[bits / 16].clone(),
                ..DeliveryQuery::default()
            };
            let target = (bits & 8 > 0).then_some(1);
            let selection = Selection {
                event,
                query: &query,
                from,
                below: Place::TOP,
                rows_max: 1,
                looked_at_max: 1,
                until: None,
            };
            let plan = plan(&conn, keys(&conn, &selection, target).unwrap());
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{query:?}: {plan:?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN e")), "{query:?}: {plan:?}");
            checked += 1;
        }
        assert_eq!(checked, 192);
    }

    #[test]
    fn the_rarer_of_two_properties_leads() {
        let folder = tempfile::tempdir().unwrap();
        let conn = store(&folder);
        for number in 0..50 {
            let event_type = if number < 40 { "user.updated" } else { "user.created" };
            let source = if number < 3 { "rare" } else { "clerk" };
            conn.execute(
                "INSERT INTO event VALUES (?1, ?1, ?2, 'msg', ?3, NULL, 0, x'')",
                (number + 1, source, event_type),
            )
            .unwrap();
        }
        let leads = |event_type, source| {
            narrowed(&conn, None, event_type, source, [0, i64::MAX])
                .unwrap()
                .map(|(narrowed, _)| narrowed.column)
        };
        assert_eq!(leads(Some("user.updated"), Some("rare")), Some("source"));
        assert_eq!(leads(Some("user.created"), Some("clerk")), Some("type"));
        assert_eq!(leads(None, None), None);
    }
}
