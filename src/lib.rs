//! clerk-relay, from the ground up. Data flows one way: bytes come in at `ingress`, `signature` turns them into a
//! verified event, the store keeps it, `delivery` sends it on. `upkeep`, `jobs` and `admin` stand beside that flow and
//! touch only the store. A file uses what stands above it on this page, never what stands below; `app` puts the parts
//! together, and the flows of floor 5 do not know each other.

// Floor 0: words.
pub mod clock;
pub mod secret;
pub mod shutdown;
pub mod event;

// Floor 1: rules.
pub mod signature;
pub mod backoff;
pub mod telemetry;

// Floor 2: decisions.
pub mod lifecycle;
pub mod config;

// Floor 3: contracts and plumbing; floor 4, the adapters, stands in their folders.
pub mod store;
pub mod http;

// Floor 5: the flows.
pub mod ingress;
pub mod delivery;
pub mod upkeep;
pub mod jobs;
pub mod admin;

// Floor 6: everything put together once, and stopped in order.
pub mod app;

// Floor 7: the process.
pub mod cli;
