//! What several integration tests share.

pub mod clerk;
pub mod events;
pub mod receiver;
pub mod relay;
