//! A range of IP addresses, as in `10.0.0.0/8`: one address and how many of its first bits count.

use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Whether `peer` is in it. An IPv4 peer of a socket of both families counts as what it is.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(own), IpAddr::V6(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    /// An address alone, or with a slash and the number of bits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).map_err(|_| ())?;
        if bits > all { Err(()) } else { Ok(Self { address, bits }) }
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
            assert_eq!(network.contains(peer.parse().unwrap()), wanted, "{network:?} {peer}");
        }
        for wrong in ["", "host", "10.0.0", "10.0.0.0/33", "::/129", "::/", "10.0.0.0/-1", "10.0.0.0/8/8", "[::1]"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
