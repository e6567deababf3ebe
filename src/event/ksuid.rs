//! The birth second inside a `svix-id`. Svix ids are `msg_` and a KSUID: 20 bytes in base62, of which the first four
//! are seconds since 1,400,000,000. Ids of any other form simply tell no time.

use crate::clock::Timestamp;

/// A KSUID's epoch, in seconds since 1970.
const EPOCH_S: i64 = 1_400_000_000;
/// A KSUID's length in base62 digits.
const DIGITS: usize = 27;
/// base62 in ASCII order, as KSUIDs use it.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The second at which the id was made, or `None` where the id is not a KSUID.
pub fn born_at(svix_id: &str) -> Option<Timestamp> {
    let digits = svix_id.rsplit_once('_').map_or(svix_id, |(_, tail)| tail);
    if digits.len() != DIGITS {
        return None;
    }
    let mut number = [0u8; 20]; // big-endian
    for digit in digits.bytes() {
        let mut carry = ALPHABET.iter().position(|&c| c == digit)? as u32;
        for byte in number.iter_mut().rev() {
            carry += u32::from(*byte) * 62;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return None; // above 2^160
        }
    }
    let seconds = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
    Some(Timestamp::from_secs(EPOCH_S + i64::from(seconds)))
}

/// A new id of the same form, born at `now`, from 16 random bytes. For samples only: events keep the sender's id.
pub fn make(now: Timestamp, random: [u8; 16]) -> String {
    let seconds = (now.as_secs() - EPOCH_S).clamp(0, i64::from(u32::MAX)) as u32;
    let mut number = [0u8; 20];
    number[..4].copy_from_slice(&seconds.to_be_bytes());
    number[4..].copy_from_slice(&random);
    let mut digits = [0u8; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    format!("msg_{}", digits.map(char::from).iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_clerk_ids_tell_their_second() {
        // An id and its creation second, both from a public capture of a real delivery.
        assert_eq!(born_at("msg_38bshCgZ8TdzfkM6DMeH2WDUwDH").map(|t| t.as_secs()), Some(1_769_079_721));
    }

    #[test]
    fn other_ids_tell_no_time() {
        for id in [
            "",
            "msg_",
            "msg_loFOjxBNrRLzqYUf",
            "msg_zzzzzzzzzzzzzzzzzzzzzzzzzzz",
            "msg_38bshCgZ8TdzfkM6DMeH2WDUw!H",
        ] {
            assert_eq!(born_at(id), None, "{id}");
        }
    }

    #[test]
    fn a_made_id_reads_back() {
        let now = Timestamp::from_secs(1_784_000_000);
        assert_eq!(born_at(&make(now, [255; 16])), Some(now));
        assert_eq!(born_at(&make(now, [0; 16])), Some(now));
    }
}
