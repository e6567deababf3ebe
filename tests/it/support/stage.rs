//! Where a relay of a test plays: a home, and the store that it keeps things in.

use serde_json::{Value, json};

use super::redis::RedisServer;
use super::relay::{Home, Relay};

/// A home with a store of either kind.
pub struct Stage {
    pub home: Home,
    /// A server of this stage alone; without it the store is a SQLite file in the home.
    pub redis: Option<RedisServer>,
}

impl Stage {
    pub fn sqlite() -> Self {
        Self { home: Home::new(), redis: None }
    }

    pub async fn redis() -> Self {
        Self { home: Home::new(), redis: Some(RedisServer::start().await) }
    }

    /// `config` with this stage's store.
    pub fn config(&self, config: &Value) -> Value {
        let mut config = config.clone();
        if let Some(server) = &self.redis {
            config["store"] = json!({ "url": server.url() });
        }
        config
    }

    /// A relay with this configuration on this stage's store.
    pub fn start(&self, config: &Value) -> Relay {
        self.home.start(&self.config(config))
    }
}

/// Makes each of these functions of a [`Stage`] a test on either store.
macro_rules! on_both_stores {
    ($($claim:ident)*) => {
        $(mod $claim {
            use crate::support::stage::Stage;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$claim(Stage::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                super::$claim(Stage::redis().await).await;
            }
        })*
    };
}

pub(crate) use on_both_stores;
