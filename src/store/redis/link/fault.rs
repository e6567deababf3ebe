//! What a failed call means: how it is classed for the caller, and whether its connection is still good. Decides on
//! error codes and kinds, never on message text.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::LinkError;

/// What a failure says of the connection that it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is good: the server answered, only not as hoped.
    Keep,
    /// A new one may lead to a server that serves: this one is broken, or leads to one that does not.
    Rebuild,
}

/// The error for the caller, and what to do with the connection.
pub(super) fn classed(error: RedisError) -> (LinkError, Remedy) {
    match error.code() {
        Some("OOM") => (LinkError::Full, Remedy::Keep),
        // A replica, one that starts, one that is cut off, or one that wants a login: perhaps another serves by now.
        Some(
            "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "NOAUTH",
        ) => (unavailable(error), Remedy::Rebuild),
        // The right server, which takes no writes for now.
        Some("MISCONF" | "NOREPLICAS" | "BUSY") => (unavailable(error), Remedy::Keep),
        Some(_) => (LinkError::Refused(Arc::new(error)), Remedy::Keep),
        None if error.kind() == ErrorKind::Client || error.kind() == ErrorKind::UnexpectedReturnType => {
            (LinkError::Refused(Arc::new(error)), Remedy::Keep)
        }
        None => (unavailable(error), Remedy::Rebuild),
    }
}

fn unavailable(error: RedisError) -> LinkError {
    LinkError::Unavailable(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reply: &str) -> (LinkError, Remedy) {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        classed(value.extract_error().unwrap_err())
    }

    #[test]
    fn a_server_at_its_memory_limit_is_full_also_where_a_script_finds_out() {
        for reply in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            "OOM command not allowed when used memory > 'maxmemory'. script: 5f, on @user_script:1.",
        ] {
            assert!(matches!(of(reply), (LinkError::Full, Remedy::Keep)), "{reply}");
        }
    }

    #[test]
    fn a_server_that_does_not_serve_is_left_for_a_new_connection() {
        for reply in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "MOVED 3999 127.0.0.1:6381",
            "NOAUTH Authentication required.",
        ] {
            assert!(matches!(of(reply), (LinkError::Unavailable(_), Remedy::Rebuild)), "{reply}");
        }
    }

    #[test]
    fn a_server_that_takes_no_writes_for_now_is_kept() {
        for reply in
            ["MISCONF Errors writing to the AOF file", "NOREPLICAS Not enough good replicas to write."]
        {
            assert!(matches!(of(reply), (LinkError::Unavailable(_), Remedy::Keep)), "{reply}");
        }
    }

    #[test]
    fn a_command_that_the_server_refuses_is_refused() {
        for reply in
            ["WRONGTYPE Operation against a key", "NOPERM this user has no permissions", "ERR unknown"]
        {
            assert!(matches!(of(reply), (LinkError::Refused(_), Remedy::Keep)), "{reply}");
        }
    }
}
