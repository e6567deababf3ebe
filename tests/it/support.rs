//! What several integration tests share.

pub mod clerk;
pub mod events;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod relay;
pub mod stage;
