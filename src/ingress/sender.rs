//! Whose request it is. The peer of the connection, unless that is one of `trusted_proxies`: then the rightmost address
//! in `X-Forwarded-For` that is not, for everything to the left of it is only what a stranger wrote.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The sender's address; IPv4 in its own form also where the socket says `::ffff:…`.
pub(super) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    let mut sender = peer.to_canonical();
    if !is_trusted(sender) {
        return sender;
    }
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("")).collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match address(entry.trim()) {
            Some(ip) => sender = ip,
            None => return sender, // what is left of this nobody vouches for
        }
        if !is_trusted(sender) {
            return sender;
        }
    }
    sender
}

/// `1.2.3.4`, `1.2.3.4:567`, `2001:db8::1`, `[2001:db8::1]:567`: proxies write all of these.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        of(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn without_trusted_proxies_the_header_is_not_believed() {
        assert_eq!(sender("192.0.2.1", &["203.0.113.7"], &[]), "192.0.2.1");
        assert_eq!(sender("192.0.2.1", &["203.0.113.7"], &["10.0.0.0/8"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_sender() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(sender("10.0.0.1", &["203.0.113.7"], &trusted), "203.0.113.7");
        assert_eq!(sender("10.0.0.1", &["198.51.100.9, 203.0.113.7, 10.2.2.2"], &trusted), "203.0.113.7");
        assert_eq!(sender("10.0.0.1", &["198.51.100.9", "203.0.113.7,10.2.2.2"], &trusted), "203.0.113.7");
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk_at_the_last_proxy() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(sender("10.0.0.1", &["203.0.113.7, unknown"], &trusted), "10.0.0.1");
        assert_eq!(sender("10.0.0.1", &["203.0.113.7, , 10.0.0.3"], &trusted), "10.0.0.3");
        assert_eq!(sender("10.0.0.1", &[], &trusted), "10.0.0.1");
    }

    #[test]
    fn when_all_are_trusted_the_leftmost_is_the_sender() {
        assert_eq!(sender("10.0.0.1", &["10.0.0.9, 10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.9");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_read() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        assert_eq!(sender("::ffff:10.0.0.1", &["203.0.113.7:5123"], &trusted), "203.0.113.7");
        assert_eq!(sender("::1", &["[2001:db8::1]:443"], &trusted), "2001:db8::1");
        assert_eq!(sender("::1", &["[2001:db8::1]"], &trusted), "2001:db8::1");
        assert_eq!(sender("::1", &["::ffff:203.0.113.7"], &trusted), "203.0.113.7");
    }
}
