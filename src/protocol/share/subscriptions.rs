//! Who has subscribed to which resource (`server/resources`, Subscriptions).
//!
//! Always: the server is subscribed to what at least one client wants; a client's subscriptions are bounded.

use super::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Resources that one client may subscribe to.
pub const SUBSCRIPTIONS: usize = 1024;
/// The longest URI of one, in bytes.
pub const URI_BYTES: usize = 8 << 10;

/// In place of the number of the request, which never is 0.
const ACCEPTED: u64 = 0;

/// The subscriptions of all clients of a link, by the unescaped URI.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    holders: BTreeMap<String, BTreeMap<Key, u64>>,
    of: HashMap<Key, BTreeSet<String>>,
}

/// What is left of a subscription that a client has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// Others have it.
    Others,
    /// Nobody has it.
    Nobody,
}

impl Subscriptions {
    /// A client subscribes by the request of this number.
    ///
    /// # Errors
    /// It may not, for this reason.
    pub fn add(&mut self, uri: &str, key: Key, number: u64) -> Result<(), &'static str> {
        if uri.len() > URI_BYTES {
            return Err("the URI is too long for a subscription");
        }
        let of = self.of.entry(key).or_default();
        if of.len() >= SUBSCRIPTIONS && !of.contains(uri) {
            return Err("too many resources are subscribed to");
        }
        of.insert(uri.to_owned());
        // A second subscription that is refused does not end the first.
        self.holders.entry(uri.to_owned()).or_default().entry(key).or_insert(number);
        Ok(())
    }

    /// A client ends its subscription, if it has one.
    pub fn remove(&mut self, uri: &str, key: Key) -> Left {
        if let Some(of) = self.of.get_mut(&key) {
            of.remove(uri);
            if of.is_empty() {
                self.of.remove(&key);
            }
        }
        let Some(holders) = self.holders.get_mut(uri) else { return Left::Nobody };
        holders.remove(&key);
        if holders.is_empty() {
            self.holders.remove(uri);
            return Left::Nobody;
        }
        Left::Others
    }

    /// The server accepted the request by which a client subscribed: no other one that it refuses ends the
    /// subscription. Unless it was ended meanwhile, and made again by a later request.
    pub fn accepted(&mut self, uri: &str, key: Key, number: u64) {
        let held = self.holders.get_mut(uri).and_then(|holders| holders.get_mut(&key));
        if let Some(held) = held.filter(|held| **held <= number) {
            *held = ACCEPTED;
        }
    }

    /// The server refused the request by which a client subscribed, or never answered it: the subscription ends, if
    /// it was made by that very request.
    pub fn refused(&mut self, uri: &str, key: Key, number: u64) {
        if self.holders.get(uri).and_then(|holders| holders.get(&key)) == Some(&number) {
            self.remove(uri, key);
        }
    }

    /// A client is gone: what nobody has now.
    pub fn leave(&mut self, key: Key) -> Vec<String> {
        let mut of = self.of.remove(&key).unwrap_or_default();
        of.retain(|uri| self.remove(uri, key) == Left::Nobody);
        of.into_iter().collect()
    }

    /// Everything that is subscribed to.
    pub fn all(&self) -> Vec<String> {
        self.holders.keys().cloned().collect()
    }

    /// Who wants to hear that this resource was updated: those who subscribed to it, or to one that it is a part of.
    pub fn wanting(&self, uri: &str) -> BTreeSet<Key> {
        let above = uri.match_indices('/').flat_map(|(at, _)| [&uri[..at], &uri[..=at]]);
        let found = above.chain([uri]).filter_map(|uri| self.holders.get(uri));
        found.flat_map(|holders| holders.keys().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = Key(1);
    const B: Key = Key(2);

    #[test]
    fn the_last_one_ends_it() {
        let mut all = Subscriptions::default();
        assert_eq!(all.remove("x", A), Left::Nobody);
        for (key, number) in [(A, 1), (A, 2), (B, 3)] {
            all.add("x", key, number).unwrap();
        }
        all.refused("x", A, 2);
        assert_eq!(all.wanting("x").len(), 2, "the first subscription of A stays");
        assert_eq!(all.remove("x", A), Left::Others);
        assert_eq!(all.remove("x", A), Left::Others);
        all.refused("x", B, 3);
        all.add("y", A, 4).unwrap();
        all.accepted("y", A, 3);
        all.accepted("y", A, 4);
        all.refused("y", A, 4);
        assert_eq!(all.all(), ["y"]);
        assert_eq!(all.remove("y", A), Left::Nobody);
        assert_eq!(all.all(), Vec::<String>::new());
    }

    #[test]
    fn who_leaves_ends_what_nobody_else_has() {
        let mut all = Subscriptions::default();
        for (uri, key) in [("x", A), ("y", A), ("y", B), ("z", B)] {
            all.add(uri, key, 1).unwrap();
        }
        assert_eq!(all.leave(A), ["x"]);
        assert_eq!(all.all(), ["y", "z"]);
        assert_eq!(all.leave(A), Vec::<String>::new());
        assert_eq!(all.leave(B), ["y", "z"]);
        assert!(all.of.is_empty() && all.holders.is_empty());
    }

    #[test]
    fn parts_count() {
        let mut all = Subscriptions::default();
        for (uri, key) in [("file:///a", A), ("file:///a/b", B), ("file:///c/", B)] {
            all.add(uri, key, 1).unwrap();
        }
        for (uri, wanted) in [
            ("file:///a", &[A][..]),
            ("file:///a/b", &[A, B]),
            ("file:///a/b/c", &[A, B]),
            ("file:///ab", &[]),
            ("file:///c", &[]),
            ("file:///c/d", &[B]),
        ] {
            assert_eq!(all.wanting(uri).into_iter().collect::<Vec<_>>(), wanted, "{uri}");
        }
    }

    #[test]
    fn they_are_bounded() {
        let mut all = Subscriptions::default();
        for n in 0..SUBSCRIPTIONS {
            all.add(&n.to_string(), A, 1).unwrap();
        }
        assert!(all.add("x", A, 1).is_err());
        assert!(all.add("7", A, 1).is_ok() && all.add("x", B, 1).is_ok());
        assert!(all.add(&"x".repeat(URI_BYTES + 1), B, 1).is_err());
    }
}
