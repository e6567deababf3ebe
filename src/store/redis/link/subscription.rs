//! Listening to a channel: a connection of its own, which tells its death in bounded time. What was published while
//! nobody listened is lost, so a listener looks for itself after it subscribed.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use redis::aio::PubSub;
use redis::{Client, RedisError, Value};

use super::connect::{self, ConnectError};
use super::fault::classed;
use super::{LinkError, LinkOptions};

/// A channel that is silent for this long is asked whether it still lives.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is published on one channel, from the moment of subscribing on.
pub struct Subscription {
    pubsub: PubSub,
    /// The longest that an answer may take.
    response: Duration,
}

impl Subscription {
    /// The next thing that is published. May be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// [`LinkError::Unavailable`]: the connection is gone, and this subscription with it; subscribe anew.
    pub async fn next(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            let heard = tokio::time::timeout(SILENCE_MAX, self.pubsub.on_message().next()).await;
            match heard {
                Ok(Some(message)) => return Ok(message.get_payload_bytes().to_vec()),
                Ok(None) => return Err(failed(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())),
                Err(_silence) => {
                    let answer = async { Ok(self.pubsub.ping::<Value>().await?) };
                    connect::bounded(self.response, answer)
                        .await
                        .map_err(|error| failed(error.into_redis()))?;
                }
            }
        }
    }
}

/// Subscribes to `channel`. In a cluster any node will do: what is published goes to all.
pub(super) async fn subscribe(options: &LinkOptions, channel: &[u8]) -> Result<Subscription, LinkError> {
    let (within, channel) = (options.timeouts.connect, channel.to_vec());
    let open = |info| {
        let channel = channel.clone();
        let subscribing = async move {
            let mut pubsub = Client::open(info)?.get_async_pubsub().await?;
            pubsub.subscribe(channel).await?;
            Ok::<_, ConnectError>(pubsub)
        };
        connect::bounded(within, subscribing).boxed()
    };
    let pubsub = connect::place(options, &open).await.map_err(|error| failed(error.into_redis()))?;
    Ok(Subscription { pubsub, response: options.timeouts.other })
}

fn failed(error: RedisError) -> LinkError {
    classed(error).0
}
