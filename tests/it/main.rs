//! The integration tests: one binary, so that everything is linked once. Each module tests one part from outside: real
//! sockets, real stores, the real program.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // tests panic and tell

mod support;

mod admin;
mod apps;
mod breaker;
mod config;
mod config_commands;
mod config_fingerprint;
mod config_keys;
mod config_redis;
mod contract;
mod erased_bytes;
mod ingress;
mod jobs;
mod kill;
mod lifecycle;
mod metrics;
mod listing_speed;
mod operator;
mod process;
mod redaction;
mod redis_link;
mod redis_process;
mod redis_rights;
mod redis_store;
mod redis_proof;
mod signature;
mod stream;
mod why;
mod sqlite;
mod sqlite_upgrade;
mod targets;
mod upkeep;
mod walk;
