//! Metrics of one name: what people read about them, how they are registered, and the few ways to hold one of them so
//! that counting costs no more than an atomic. Knows no name of any metric.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::event::catalog::{KNOWN_TYPES, UNKNOWN_TYPE};

/// The label value for everything beyond what is told apart.
pub const OTHER: &str = "other";
/// More words than any label of ours has; what comes beyond them is [`OTHER`].
const WORDS_MAX: usize = 48;
/// Clerk's types, the type of an event whose body tells none, and all others together.
const TYPES: usize = KNOWN_TYPES.len() + 2;

/// What a metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows from 0.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts into buckets; its series end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1; its labels are what it says.
    Info,
}

/// What people read about a metric.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name without what the kind appends.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence without its full stop, which the encoder appends.
    pub help: &'static str,
}

impl About {
    /// The name that is queried; of a histogram without `_bucket` and the like.
    pub fn exposed(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
            Kind::Info => "_info",
        };
        format!("{}{suffix}", self.name)
    }

    /// These values as its labels.
    fn labelled(&self, values: &[&str]) -> Labels {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        self.labels.iter().zip(values).map(|(label, value)| (*label, (*value).to_owned())).collect()
    }
}

type Labels = Vec<(&'static str, String)>;

/// All metrics of one name. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Metered<M> {
    about: &'static About,
    family: Family<Labels, M, fn() -> M>,
}

impl<M: Clone> Metered<M> {
    /// The one with these label values; made where it is new.
    pub fn with(&self, values: &[&str]) -> M {
        self.family.get_or_create_owned(&self.about.labelled(values))
    }
}

/// A registry that remembers what was said about its metrics.
#[derive(Debug, Default)]
pub struct Book {
    registry: Registry,
    entries: Vec<&'static About>,
}

impl Book {
    /// Metrics of this name, each made by `new`.
    pub fn family<M>(&mut self, about: &'static About, new: fn() -> M) -> Metered<M>
    where
        Family<Labels, M, fn() -> M>: Metric + Clone,
    {
        let family = Family::new_with_constructor(new);
        self.register(about, family.clone());
        Metered { about, family }
    }

    /// The only metric of this name, which has no labels.
    pub fn one<M: Metric + Clone + Default>(&mut self, about: &'static About) -> M {
        let one = M::default();
        self.register(about, one.clone());
        one
    }

    /// The only gauge of this name, which has no labels and, where `value` is `None`, is absent.
    pub fn reading(&mut self, about: &'static About, value: Option<i64>) {
        match value {
            Some(value) => {
                self.one::<Gauge>(about).set(value);
            }
            None => self.entries.push(about),
        }
    }

    /// Something that is said once, by its labels.
    pub fn info(&mut self, about: &'static About, values: &[&str]) {
        self.register(about, Info::new(about.labelled(values)));
    }

    fn register(&mut self, about: &'static About, metric: impl Metric) {
        self.registry.register(about.name, about.help, metric);
        self.entries.push(about);
    }

    /// What is registered, in order.
    pub fn entries(&self) -> &[&'static About] {
        &self.entries
    }

    /// Where the encoder reads from.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// One of something for each word, made when the word first comes. The words are the program's own; should there ever be
/// more than fit, the rest share [`OTHER`].
#[derive(Debug)]
pub struct ByWord<M> {
    /// Boxed, for most places stay empty.
    made: [OnceLock<Box<(&'static str, M)>>; WORDS_MAX],
}

impl<M> Default for ByWord<M> {
    fn default() -> Self {
        Self { made: [const { OnceLock::new() }; WORDS_MAX] }
    }
}

impl<M> ByWord<M> {
    /// The one for `word`.
    pub fn of(&self, word: &'static str, make: impl Fn(&'static str) -> M) -> &M {
        let (last, first) = self.made.split_last().expect("the array is not empty");
        for place in first {
            let (taken, one) = &**place.get_or_init(|| Box::new((word, make(word))));
            if *taken == word {
                return one;
            }
        }
        &last.get_or_init(|| Box::new((OTHER, make(OTHER)))).1
    }

    /// All that were made.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.made.iter().filter_map(OnceLock::get).map(|made| &made.1)
    }
}

/// One counter for each of Clerk's types, made when the type first comes. All types that Clerk's catalogs do not name
/// share one, so that a sender cannot make series without end.
#[derive(Debug)]
pub struct ByType {
    made: [OnceLock<Counter>; TYPES],
}

impl Default for ByType {
    fn default() -> Self {
        Self { made: [const { OnceLock::new() }; TYPES] }
    }
}

impl ByType {
    /// The counter of a type.
    pub fn of(&self, event_type: &str, make: impl FnOnce(&'static str) -> Counter) -> &Counter {
        let (place, label) = match KNOWN_TYPES.binary_search(&event_type) {
            Ok(place) => (place, KNOWN_TYPES[place]),
            Err(_) if event_type == UNKNOWN_TYPE => (TYPES - 2, UNKNOWN_TYPE),
            Err(_) => (TYPES - 1, OTHER),
        };
        self.made[place].get_or_init(|| make(label))
    }

    /// The sum over all types.
    pub fn sum(&self) -> u64 {
        self.made.iter().filter_map(OnceLock::get).map(Counter::get).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_until_there_is_no_place_left() {
        let words: Vec<&'static str> =
            (0..60).map(|number| &*Box::leak(format!("word_{number}").into_boxed_str())).collect();
        let by_word = ByWord::default();
        for _ in 0..2 {
            for word in &words {
                by_word.of(word, |_| Counter::<u64>::default()).inc();
            }
        }
        let counts: Vec<u64> = by_word.iter().map(Counter::get).collect();
        assert_eq!(counts.len(), WORDS_MAX);
        assert!(counts[..WORDS_MAX - 1].iter().all(|count| *count == 2));
        assert_eq!(counts[WORDS_MAX - 1], 2 * (60 - WORDS_MAX as u64 + 1));
    }

    #[test]
    fn types_that_nobody_knows_share_one_counter() {
        let by_type = ByType::default();
        let labels = std::cell::RefCell::new(Vec::new());
        for event_type in ["user.created", "unknown", "a.b", "c.d", "user.created", ""] {
            let make = |label| {
                labels.borrow_mut().push(label);
                Counter::default()
            };
            by_type.of(event_type, make).inc();
        }
        assert_eq!(*labels.borrow(), ["user.created", "unknown", "other"]);
        assert_eq!(by_type.sum(), 6);
    }

    #[test]
    fn the_catalog_is_sorted_so_that_types_are_found() {
        assert!(KNOWN_TYPES.is_sorted());
    }
}
