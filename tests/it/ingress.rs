//! Ingress over real sockets, in front of the real store: the table of answers, the limits, the stop.

mod answers;
mod client;
mod faults;
mod health;
mod limits;
mod logs;
mod refusals;
mod relay;
mod replays;
mod senders;
mod sockets;
mod stopping;
