//! Who is at the other end of a connection, and whether it is one of those that are named: a range of IP addresses, as
//! in `10.0.0.0/8` (one address and how many of its first bits count), or whoever comes through a Unix socket.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Somebody with an address.
    Address(IpAddr),
    /// Somebody on this machine who may open our Unix socket.
    Unix,
    /// It is not there any more.
    Gone,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix => f.write_str("a Unix socket"),
            Self::Gone => f.write_str("somebody who has gone"),
        }
    }
}

/// A range of addresses, or all that comes through Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Range { address: IpAddr, bits: u32 },
    Unix,
}

impl Network {
    /// Whether `peer` is in it. An IPv4 peer of a socket of both families counts as what it is.
    #[must_use]
    pub fn contains(&self, peer: Peer) -> bool {
        let (address, bits, peer) = match (self.0, peer) {
            (Kind::Range { address, bits }, Peer::Address(peer)) => (address, bits, peer),
            (Kind::Unix, Peer::Unix) => return true,
            _ => return false,
        };
        match (address, peer.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros() >= bits,
            (IpAddr::V6(own), IpAddr::V6(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros() >= bits,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    /// An address alone, or with a slash and the number of bits; or `unix`.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "unix" {
            return Ok(Self(Kind::Unix));
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).map_err(|_| ())?;
        if bits > all { Err(()) } else { Ok(Self(Kind::Range { address, bits })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network() {
        for (network, peer, wanted) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1/8", "10.255.0.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/31", "10.0.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("::1", "::1", true),
            ("::1", "::2", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fe00::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(Peer::Address(peer.parse().unwrap())), wanted, "{network:?} {peer}");
            assert!(!network.contains(Peer::Unix) && !network.contains(Peer::Gone));
        }
        let unix: Network = "unix".parse().unwrap();
        assert!(unix.contains(Peer::Unix) && !unix.contains(Peer::Gone));
        assert!(!unix.contains(Peer::Address("127.0.0.1".parse().unwrap())));
        for wrong in [
            "",
            "host",
            "Unix",
            "unix/8",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "::/",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "[::1]",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
