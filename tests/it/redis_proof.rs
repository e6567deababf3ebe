//! Proofs of the Redis store with the real program: relays and Redis are killed, stopped and cut off under load, and in
//! the end the books of the sender, of the apps and of the store must agree.

mod app;
mod books;
mod crashes;
mod fleet;
mod kills;
mod load;
mod stalls;
mod stopping;
