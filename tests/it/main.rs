//! The integration tests: one binary, so that everything is linked once. Each module tests one part from outside: real
//! sockets, real stores, the real program.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // tests panic and tell

mod support;

mod config;
mod contract;
mod ingress;
mod lifecycle;
mod signature;
mod sqlite;
