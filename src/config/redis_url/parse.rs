//! Text → the address of a Redis store, or why it is none. Pure.
//!
//! `SCHEME://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/…]`. User and password are percent-decoded. After the hosts
//! come `/N` (a database) of a single server and `/MASTER[/N]` of Sentinels; a Unix socket is a path and `?db=N`. No
//! error repeats any of the text: it holds a password.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::{BadRedisUrl, PORT_SENTINEL, PORT_SERVER, RedisUrl, Topology, Transport};

/// What a scheme says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    Standalone,
    Cluster,
    Sentinel,
    Socket,
}

/// How a scheme wants servers to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Plain,
    Tls,
}

const SCHEMES: [(&str, Arrangement, Wire); 7] = [
    ("redis", Arrangement::Standalone, Wire::Plain),
    ("rediss", Arrangement::Standalone, Wire::Tls),
    ("redis+cluster", Arrangement::Cluster, Wire::Plain),
    ("rediss+cluster", Arrangement::Cluster, Wire::Tls),
    ("redis+sentinel", Arrangement::Sentinel, Wire::Plain),
    ("rediss+sentinel", Arrangement::Sentinel, Wire::Tls),
    ("redis+unix", Arrangement::Socket, Wire::Plain),
];

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;

    fn from_str(text: &str) -> Result<Self, BadRedisUrl> {
        let (scheme, rest) = text.split_once(':').ok_or(BadRedisUrl::Scheme)?;
        let known = SCHEMES.into_iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme));
        let (_, arrangement, wire) = known.ok_or(BadRedisUrl::Scheme)?;
        let rest = rest.strip_prefix("//").ok_or(BadRedisUrl::NoSlashes)?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // An `@` further on: what ended the authority stood in the login. Only a socket's path may hold one.
        let path_may_hold_it =
            arrangement == Arrangement::Socket && (authority.is_empty() || authority.ends_with('@'));
        if tail.contains('@') && !path_may_hold_it {
            return Err(BadRedisUrl::Unencoded);
        }
        let (login, places) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = read_login(login)?;
        if tail.contains('#') {
            return Err(BadRedisUrl::Fragment);
        }
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (tail, None),
        };
        if arrangement == Arrangement::Socket {
            let (path, database) = read_socket(places, path, query)?;
            let transport = Transport::Unix(path);
            return Ok(Self { topology: Topology::Standalone, transport, username, password, database });
        }
        if query.is_some() {
            return Err(BadRedisUrl::Parameters);
        }
        let nodes = read_nodes(places, arrangement)?;
        let (topology, database) = read_path(path, arrangement)?;
        let transport = match wire {
            Wire::Plain => Transport::Tcp(nodes),
            Wire::Tls => Transport::Tls(nodes),
        };
        Ok(Self { topology, transport, username, password, database })
    }
}

/// `USER:PASSWORD`, either of which may be empty; the colon of a password needs no encoding.
fn read_login(login: &str) -> Result<(Option<String>, Option<String>), BadRedisUrl> {
    if login.contains('@') || login.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(BadRedisUrl::Unencoded);
    }
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    match (decoded(username)?, decoded(password)?) {
        (Some(_), None) => Err(BadRedisUrl::NoPassword),
        login => Ok(login),
    }
}

/// The text that `encoded` stands for; `None` where it is empty.
fn decoded(encoded: &str) -> Result<Option<String>, BadRedisUrl> {
    let is_hex = |at: usize| encoded.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if !encoded.match_indices('%').all(|(at, _)| is_hex(at + 1) && is_hex(at + 2)) {
        return Err(BadRedisUrl::Percent);
    }
    let text = percent_decode_str(encoded).decode_utf8().map_err(|_| BadRedisUrl::NotText)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

/// The hosts with their ports.
fn read_nodes(places: &str, arrangement: Arrangement) -> Result<Vec<(String, u16)>, BadRedisUrl> {
    let (port, takes_list) = match arrangement {
        Arrangement::Standalone | Arrangement::Socket => (PORT_SERVER, false),
        Arrangement::Cluster => (PORT_SERVER, true),
        Arrangement::Sentinel => (PORT_SENTINEL, true),
    };
    let nodes = places.split(',').map(|place| read_node(place, port)).collect::<Result<Vec<_>, _>>()?;
    if nodes.len() > 1 && !takes_list { Err(BadRedisUrl::SeveralHosts) } else { Ok(nodes) }
}

fn read_node(place: &str, port_default: u16) -> Result<(String, u16), BadRedisUrl> {
    let (host, after) = if let Some(inside) = place.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(BadRedisUrl::Ipv6)?;
        let host: Ipv6Addr = host.parse().map_err(|_| BadRedisUrl::Ipv6)?;
        (host.to_string(), after)
    } else {
        let (host, after) = place.split_at(place.find(':').unwrap_or(place.len()));
        if after.matches(':').count() > 1 {
            return Err(BadRedisUrl::Ipv6);
        }
        if host.is_empty() {
            return Err(BadRedisUrl::NoHost);
        }
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(BadRedisUrl::Host);
        }
        (host.to_owned(), after)
    };
    match after.strip_prefix(':') {
        None if after.is_empty() => Ok((host, port_default)),
        None => Err(BadRedisUrl::Ipv6),
        Some(digits) => match number(digits).and_then(|port| u16::try_from(port).ok()) {
            None | Some(0) => Err(BadRedisUrl::Port),
            Some(port) => Ok((host, port)),
        },
    }
}

/// What stands behind the hosts: a master, a database, both or nothing. A `/` at the end says nothing.
fn read_path(path: &str, arrangement: Arrangement) -> Result<(Topology, u32), BadRedisUrl> {
    let path = path.strip_prefix('/').unwrap_or_default();
    let path = path.strip_suffix('/').unwrap_or(path);
    match arrangement {
        Arrangement::Standalone | Arrangement::Socket => Ok((Topology::Standalone, read_database(path)?)),
        Arrangement::Cluster => match read_database(path)? {
            0 => Ok((Topology::Cluster, 0)),
            _ => Err(BadRedisUrl::ClusterDatabase),
        },
        Arrangement::Sentinel => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err(BadRedisUrl::NoMaster);
            }
            // The characters that Sentinel's own configuration takes.
            if !master.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
                return Err(BadRedisUrl::Master);
            }
            if database.contains('/') {
                return Err(BadRedisUrl::TooManyParts);
            }
            Ok((Topology::Sentinel { master: master.to_owned() }, read_database(database)?))
        }
    }
}

/// The path of a socket, taken as it stands, and the database.
fn read_socket(places: &str, path: &str, query: Option<&str>) -> Result<(PathBuf, u32), BadRedisUrl> {
    if !places.is_empty() {
        return Err(BadRedisUrl::SocketHost);
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(BadRedisUrl::NoSocket);
    }
    let database = match query {
        None => 0,
        Some(query) => query.strip_prefix("db=").and_then(number).ok_or(BadRedisUrl::SocketParameters)?,
    };
    Ok((path.into(), database))
}

fn read_database(text: &str) -> Result<u32, BadRedisUrl> {
    if text.is_empty() { Ok(0) } else { number(text).ok_or(BadRedisUrl::Database) }
}

/// A number of digits alone: the standard library would take a sign as well.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> RedisUrl {
        text.parse().unwrap_or_else(|bad| panic!("{text}: {bad}"))
    }

    #[test]
    fn every_scheme_says_how_servers_are_arranged_and_reached() {
        let one = |port| vec![("h".to_owned(), port)];
        let sentinel = || Topology::Sentinel { master: "main".into() };
        for (text, topology, transport) in [
            ("redis://h", Topology::Standalone, Transport::Tcp(one(6379))),
            ("rediss://h", Topology::Standalone, Transport::Tls(one(6379))),
            ("redis+cluster://h", Topology::Cluster, Transport::Tcp(one(6379))),
            ("rediss+cluster://h:1", Topology::Cluster, Transport::Tls(one(1))),
            ("redis+sentinel://h/main", sentinel(), Transport::Tcp(one(26379))),
            ("rediss+sentinel://h/main", sentinel(), Transport::Tls(one(26379))),
            ("redis+unix:///run/redis.sock", Topology::Standalone, Transport::Unix("/run/redis.sock".into())),
            ("REDIS://h/", Topology::Standalone, Transport::Tcp(one(6379))),
        ] {
            let url = parsed(text);
            assert_eq!((url.topology, url.transport), (topology, transport), "{text}");
            assert_eq!((url.username, url.password, url.database), (None, None, 0), "{text}");
        }
    }

    #[test]
    fn hosts_are_a_list_where_there_are_several_servers() {
        let nodes = [("a.example".to_owned(), 6379), ("::1".to_owned(), 7000), ("10.0.0.1".to_owned(), 6379)];
        let url = parsed("redis+cluster://a.example,[::1]:7000,10.0.0.1:6379/0");
        assert_eq!(url.transport, Transport::Tcp(nodes.to_vec()));
        assert_eq!(url.to_string(), "redis+cluster://a.example:6379,[::1]:7000,10.0.0.1:6379");
    }

    #[test]
    fn a_database_stands_where_its_kind_of_store_has_it() {
        for (text, database) in [
            ("redis://h/3", 3),
            ("redis://h/3/", 3),
            ("redis+sentinel://h,i/main/2", 2),
            ("redis+unix:///run/redis@1.sock?db=7", 7),
            ("redis+cluster://h/0", 0),
        ] {
            assert_eq!(parsed(text).database, database, "{text}");
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        for (text, username, password) in [
            ("redis://:pw@h", None, Some("pw")),
            ("redis://ann:p%40ss%2F%3F%23%25@h", Some("ann"), Some("p@ss/?#%")),
            ("redis://%C3%A9:a:b,c@h", Some("é"), Some("a:b,c")),
            ("redis+unix://ann:pw@/run/redis.sock", Some("ann"), Some("pw")),
            ("redis://:@h", None, None),
            ("redis://@h", None, None),
        ] {
            let url = parsed(text);
            assert_eq!((url.username.as_deref(), url.password.as_deref()), (username, password), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, bad) in [
            ("redis", BadRedisUrl::Scheme),
            ("redis-sentinel://h/main", BadRedisUrl::Scheme),
            ("rediss+unix:///run/redis.sock", BadRedisUrl::Scheme),
            ("redis:h", BadRedisUrl::NoSlashes),
            ("redis://:p/w@h", BadRedisUrl::Unencoded),
            ("redis://:p?w@h", BadRedisUrl::Unencoded),
            ("redis://:p#w@h", BadRedisUrl::Unencoded),
            ("redis://:p@w@h", BadRedisUrl::Unencoded),
            ("redis://:p@w/x@h", BadRedisUrl::Unencoded),
            ("redis://:p w@h", BadRedisUrl::Unencoded),
            ("redis://:pw\n@h", BadRedisUrl::Unencoded),
            ("redis+unix://:p/w@/run/redis.sock", BadRedisUrl::Unencoded),
            ("redis://:100%@h", BadRedisUrl::Percent),
            ("redis://:%zz@h", BadRedisUrl::Percent),
            ("redis://:%ff@h", BadRedisUrl::NotText),
            ("redis://ann@h", BadRedisUrl::NoPassword),
            ("redis://ann:@h", BadRedisUrl::NoPassword),
            ("redis://", BadRedisUrl::NoHost),
            ("redis:///3", BadRedisUrl::NoHost),
            ("redis://:pw", BadRedisUrl::NoHost),
            ("redis+cluster://a,,b", BadRedisUrl::NoHost),
            ("redis://h!", BadRedisUrl::Host),
            ("redis://é", BadRedisUrl::Host),
            ("redis://::1", BadRedisUrl::Ipv6),
            ("redis://[::1", BadRedisUrl::Ipv6),
            ("redis://[h]", BadRedisUrl::Ipv6),
            ("redis://[::1]6379", BadRedisUrl::Ipv6),
            ("redis://h:", BadRedisUrl::Port),
            ("redis://h:0", BadRedisUrl::Port),
            ("redis://h:+1", BadRedisUrl::Port),
            ("redis://h:65536", BadRedisUrl::Port),
            ("redis://ann:pw", BadRedisUrl::Port),
            ("redis://a,b", BadRedisUrl::SeveralHosts),
            ("redis://h/first", BadRedisUrl::Database),
            ("redis://h/1/2", BadRedisUrl::Database),
            ("redis://h/99999999999", BadRedisUrl::Database),
            ("redis+cluster://h/1", BadRedisUrl::ClusterDatabase),
            ("redis+sentinel://h", BadRedisUrl::NoMaster),
            ("redis+sentinel://h//1", BadRedisUrl::NoMaster),
            ("redis+sentinel://h/ma in", BadRedisUrl::Master),
            ("redis+sentinel://h/main/1/2", BadRedisUrl::TooManyParts),
            ("redis+sentinel://h/main/x", BadRedisUrl::Database),
            ("redis://h/1?timeout=5", BadRedisUrl::Parameters),
            ("redis+unix:///run/redis.sock?user=a", BadRedisUrl::SocketParameters),
            ("redis+unix:///run/redis.sock?db=1&db=2", BadRedisUrl::SocketParameters),
            ("rediss://h/#insecure", BadRedisUrl::Fragment),
            ("redis+unix://run/redis.sock", BadRedisUrl::SocketHost),
            ("redis+unix://", BadRedisUrl::NoSocket),
            ("redis+unix:///run/", BadRedisUrl::NoSocket),
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(bad), "{text}");
        }
    }

    /// A host as it stands in an address.
    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?",
            any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        ]
    }

    /// A host with or without its port.
    fn place() -> impl Strategy<Value = String> {
        (host(), proptest::option::of(1u16..)).prop_map(|(host, port)| match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        })
    }

    fn places() -> impl Strategy<Value = String> {
        proptest::collection::vec(place(), 1..4).prop_map(|places| places.join(","))
    }

    /// An address in two parts, between which the login stands.
    fn address() -> impl Strategy<Value = (String, String)> {
        let joined = |(places, rest): (String, String)| places + &rest;
        prop_oneof![
            ("rediss?", (place(), "(/[0-9]{0,3})?").prop_map(joined)),
            ("rediss?\\+cluster", (places(), "(/0?)?").prop_map(joined)),
            ("rediss?\\+sentinel", (places(), "/[A-Za-z0-9._-]{1,12}(/[0-9]{1,3})?").prop_map(joined)),
            ("redis\\+unix", "/[a-z0-9@:,%_. -]{0,20}[a-z](\\?db=[0-9]{1,4})?"),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_same_address_without_its_login(
            (scheme, rest) in address(), username in any::<String>(), password in ".{1,40}",
        ) {
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let text = format!("{scheme}://{}:{}@{rest}", encoded(&username), encoded(&password));
            let url = parsed(&text);
            prop_assert_eq!(url.username.as_deref().unwrap_or_default(), &username);
            prop_assert_eq!(url.password.as_deref(), Some(password.as_str()));
            let without = parsed(&format!("{scheme}://{rest}"));
            prop_assert_eq!(url.to_string(), without.to_string());
            prop_assert_eq!(format!("{url:?}"), url.to_string());
            prop_assert_eq!(parsed(&url.to_string()), without);
        }

        #[test]
        fn no_text_makes_it_panic(text in "rediss?(\\+cluster|\\+sentinel|\\+unix)?:(//)?[a-c0-9:@/?#,%\\[\\]é ]{0,16}") {
            if let Ok(url) = text.parse::<RedisUrl>() {
                prop_assert_eq!(parsed(&url.to_string()).to_string(), url.to_string());
            }
        }
    }
}
