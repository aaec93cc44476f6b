//! HTTP digest authentication, the client's arithmetic (RFC 7616, RFC 2069): a challenge and a login make the value of
//! an `Authorization` header. The hashes are ours because MD5 is in no library that the program has anyway.
//!
//! Always: nothing here waits or draws a random number; what a challenge asks for that is not known is refused in
//! words, never answered by something weaker.

use std::fmt::Write as _;

/// What a server asks for in `WWW-Authenticate: Digest …`.
#[derive(Debug, Clone)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// The answer carries a count and a nonce of ours (RFC 7616), or neither (RFC 2069).
    counts: bool,
    /// The login was right, only the nonce was too old.
    pub stale: bool,
}

#[derive(Debug, Clone)]
struct Algorithm {
    /// As the server writes it; `None` where it does not.
    name: Option<String>,
    hash: fn(&[u8]) -> String,
    is_session: bool,
}

/// One request, as far as its digest says something of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `GET`, `POST`
    pub method: &'a str,
    /// Path and query as they are sent.
    pub target: &'a str,
    /// How many requests used this nonce, this one included.
    pub count: u32,
    /// A random text of ours.
    pub cnonce: &'a str,
}

impl Challenge {
    /// The best digest challenge among the values of `WWW-Authenticate`: SHA-256 before MD5. `None` if there is none.
    ///
    /// # Errors
    /// There are some, but all ask for something that is not known.
    pub fn choose<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<Self>, String> {
        let (mut best, mut fault) = (None::<Self>, None);
        for parameters in values.into_iter().flat_map(challenges) {
            match Self::of(&parameters) {
                Ok(found) if best.as_ref().is_none_or(|best| found.strength() > best.strength()) => best = Some(found),
                Ok(_) => {}
                Err(why) => fault = Some(why),
            }
        }
        match (best, fault) {
            (None, Some(why)) => Err(why),
            (best, _) => Ok(best),
        }
    }

    fn of(parameters: &[(String, String)]) -> Result<Self, String> {
        let value = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let (Some(realm), Some(nonce)) = (value("realm"), value("nonce")) else {
            return Err("its digest challenge has no realm or no nonce".into());
        };
        let qop = value("qop");
        let counts = qop.as_deref().is_some_and(|all| all.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")));
        if qop.is_some() && !counts {
            return Err("its digest challenge wants the body to be protected (qop=auth-int), which we cannot".into());
        }
        let algorithm = Algorithm::named(value("algorithm"))?;
        if algorithm.is_session && !counts {
            return Err("its digest challenge wants a session without qop, which means nothing".into());
        }
        let stale = value("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        Ok(Self { realm, nonce, opaque: value("opaque"), algorithm, counts, stale })
    }

    fn strength(&self) -> usize {
        (self.algorithm.hash)(b"").len()
    }

    /// The value of `Authorization`.
    #[must_use]
    pub fn answer(&self, username: &str, password: &str, asked: Asked<'_>) -> String {
        let Asked { method, target, count, cnonce } = asked;
        let hash = self.algorithm.hash;
        let mut secret = hash(format!("{username}:{}:{password}", self.realm).as_bytes());
        if self.algorithm.is_session {
            secret = hash(format!("{secret}:{}:{cnonce}", self.nonce).as_bytes());
        }
        let request = hash(format!("{method}:{target}").as_bytes());
        let between =
            if self.counts { format!("{}:{count:08x}:{cnonce}:auth", self.nonce) } else { self.nonce.clone() };
        let response = hash(format!("{secret}:{between}:{request}").as_bytes());
        let mut text = format!(
            "Digest {}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            named(username),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(target)
        );
        if let Some(name) = &self.algorithm.name {
            let _ = write!(text, ", algorithm={name}");
        }
        if self.counts {
            let _ = write!(text, ", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(text, ", opaque={}", quoted(opaque));
        }
        text
    }
}

impl Algorithm {
    fn named(name: Option<String>) -> Result<Self, String> {
        let known: (fn(&[u8]) -> String, bool) = match name.as_deref().unwrap_or("MD5").to_ascii_uppercase().as_str() {
            "MD5" => (md5, false),
            "MD5-SESS" => (md5, true),
            "SHA-256" => (sha256, false),
            "SHA-256-SESS" => (sha256, true),
            _ => return Err("its digest challenge asks for an algorithm other than MD5 and SHA-256".into()),
        };
        Ok(Self { name, hash: known.0, is_session: known.1 })
    }
}

/// RFC 7616, section 3.4: a name that is not ASCII is written as RFC 8187 says.
fn named(username: &str) -> String {
    if username.is_ascii() {
        return format!("username={}", quoted(username));
    }
    let mut text = "username*=UTF-8''".to_owned();
    for byte in username.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(byte.into()),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The parameters of each digest challenge in one value; names in lower case. What is no challenge is passed over.
fn challenges(value: &str) -> Vec<Vec<(String, String)>> {
    let mut found: Vec<Vec<(String, String)>> = Vec::new();
    let mut is_digest = false;
    for item in items(value) {
        let (scheme, parameter) = scheme_and_parameter(item);
        if let Some(scheme) = scheme {
            is_digest = scheme.eq_ignore_ascii_case("digest");
            if is_digest {
                found.push(Vec::new());
            }
        }
        if let (true, Some(parameter), Some(last)) = (is_digest, parameter_of(parameter), found.last_mut()) {
            last.push(parameter);
        }
    }
    found
}

/// `Digest realm="x"` begins a challenge, `nonce="y"` goes on with it, `Negotiate` is one of its own.
fn scheme_and_parameter(item: &str) -> (Option<&str>, &str) {
    match item.find(['=', ' ', '"']) {
        Some(at) if item.as_bytes()[at] == b' ' => match item[at..].trim_start() {
            rest if rest.starts_with('=') => (None, item),
            rest => (Some(&item[..at]), rest),
        },
        Some(_) => (None, item),
        None => (Some(item), ""),
    }
}

/// `name = "value"` or `name=value`.
fn parameter_of(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"') else {
        return Some((name.trim().to_ascii_lowercase(), value.to_owned()));
    };
    let (mut text, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => break,
            c => {
                text.push(c);
                escaped = false;
            }
        }
    }
    Some((name.trim().to_ascii_lowercase(), text))
}

/// What stands between the commas that are in no quotes.
fn items(value: &str) -> Vec<&str> {
    let (mut all, mut from, mut is_quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if is_quoted => escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                all.push(value[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(value[from..].trim());
    all.retain(|item| !item.is_empty());
    all
}

/// The message in blocks of 64 bytes, with its end and length as MD5 and SHA-256 want them.
fn padded(bytes: &[u8], length: [u8; 8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend(length);
    padded
}

fn bits(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).wrapping_mul(8)
}

fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 1321.
fn md5(bytes: &[u8]) -> String {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded(bytes, bits(bytes).to_le_bytes()).chunks_exact(64) {
        let word = |i: usize| u32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]);
        let [mut a, mut b, mut c, mut d] = state;
        for (i, sine) in SINES.iter().enumerate() {
            let (mixed, which) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            let sum = a.wrapping_add(mixed).wrapping_add(*sine).wrapping_add(word(which));
            let turned = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
            (a, b, c, d) = (d, turned, b, c);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d]) {
            *sum = sum.wrapping_add(part);
        }
    }
    hex(state.into_iter().flat_map(u32::to_le_bytes))
}

/// RFC 6234.
pub(super) fn sha256(bytes: &[u8]) -> String {
    #[rustfmt::skip]
    let mut state: [u32; 8] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ];
    for block in padded(bytes, bits(bytes).to_be_bytes()).chunks_exact(64) {
        let mut words = [0_u32; 64];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for i in 16..64 {
            let (x, y) = (words[i - 15], words[i - 2]);
            let low = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let high = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
            words[i] = words[i - 16].wrapping_add(low).wrapping_add(words[i - 7]).wrapping_add(high);
        }
        let mut s = state;
        for (word, root) in words.iter().zip(ROOTS) {
            let high = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
            let chosen = (s[4] & s[5]) ^ (!s[4] & s[6]);
            let first = s[7].wrapping_add(high).wrapping_add(chosen).wrapping_add(root).wrapping_add(*word);
            let low = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
            let most = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
            let second = low.wrapping_add(most);
            s = [first.wrapping_add(second), s[0], s[1], s[2], s[3].wrapping_add(first), s[4], s[5], s[6]];
        }
        for (sum, part) in state.iter_mut().zip(s) {
            *sum = sum.wrapping_add(part);
        }
    }
    hex(state.into_iter().flat_map(u32::to_be_bytes))
}

/// The sines of 1 to 64, times 2^32.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// The fractions of the cube roots of the first 64 primes, times 2^32.
#[rustfmt::skip]
const ROOTS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

    use super::*;

    #[test]
    fn the_hashes_are_those_of_rfc_1321_and_rfc_6234() {
        let long = "1234567890".repeat(8);
        let blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for (hash, text, expected) in [
            (md5 as fn(&[u8]) -> String, "", "d41d8cd98f00b204e9800998ecf8427e"),
            (md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
            (md5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (md5, &long, "57edf4a22be3c955ac49da2e2107b67a"),
            (sha256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (sha256, blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        ] {
            assert_eq!(hash(text.as_bytes()), expected, "{text}");
        }
        let million = vec![b'a'; 1_000_000];
        assert_eq!(sha256(&million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    fn challenge(value: &str) -> Challenge {
        Challenge::choose([value]).unwrap().unwrap()
    }

    fn response(value: &str, username: &str, password: &str, cnonce: &str) -> String {
        let asked = Asked { method: "GET", target: "/dir/index.html", count: 1, cnonce };
        let answer = challenge(value).answer(username, password, asked);
        let (_, rest) = answer.split_once("response=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    #[test]
    fn the_answers_are_those_of_the_rfcs() {
        let rfc_2617 = r#"Digest realm="testrealm@host.com", qop="auth,auth-int",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let answer = response(rfc_2617, "Mufasa", "Circle Of Life", "0a4f113b");
        assert_eq!(answer, "6629fae49393a05397450978507c4ef1");
        let rfc_2069 = r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#;
        assert_eq!(response(rfc_2069, "Mufasa", "CircleOfLife", ""), "1949323746fe6a43ef61f9606e7febea");
        let rfc_7616 = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=ALGORITHM,
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let value = rfc_7616.replace("ALGORITHM", algorithm);
            assert_eq!(response(&value, "Mufasa", "Circle of Life", cnonce), expected, "{algorithm}");
        }
    }

    #[test]
    fn a_session_binds_the_secret_to_both_nonces() {
        let value = r#"Digest realm="r", nonce="n", qop=auth, algorithm=MD5-sess"#;
        let secret = md5(format!("{}:n:c", md5(b"u:r:p")).as_bytes());
        let expected = md5(format!("{secret}:n:00000001:c:auth:{}", md5(b"GET:/dir/index.html")).as_bytes());
        assert_eq!(response(value, "u", "p", "c"), expected);
    }

    #[test]
    fn the_header_is_written_as_servers_read_it() {
        let value = r#"Digest realm="a \"b\"", nonce="n", qop="auth", algorithm=SHA-256, opaque="""#;
        let asked = Asked { method: "POST", target: "/m?x=1", count: 27, cnonce: "c" };
        let answer = challenge(value).answer("us\\er", "p", asked);
        let front = r#"Digest username="us\\er", realm="a \"b\"", nonce="n", uri="/m?x=1", response=""#;
        assert!(answer.starts_with(front), "{answer}");
        let back = r#"", algorithm=SHA-256, qop=auth, nc=0000001b, cnonce="c", opaque="""#;
        assert!(answer.ends_with(back), "{answer}");
    }

    #[test]
    fn the_best_challenge_is_found_among_others() {
        for (values, nonce) in [
            (&[r#"Basic realm="a, b", Digest realm="r", nonce="1", Negotiate"#][..], Some("1")),
            (&[r#"Digest realm="r", nonce="1""#, r#"digest realm="r",nonce="2",algorithm="sha-256""#], Some("2")),
            (&[r#"Digest realm="r", nonce="1", algorithm=SHA-512, Digest realm="r", nonce = "2""#], Some("2")),
            (&[r#"Basic realm="Digest nonce=1""#, "Bearer", ""], None),
            (&[], None),
        ] {
            let found = Challenge::choose(values.iter().copied()).unwrap();
            assert_eq!(found.as_ref().map(|found| &*found.nonce), nonce, "{values:?}");
        }
        assert!(challenge(r#"Digest realm="r", nonce="1", stale=TRUE"#).stale);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (value, expected) in [
            (r#"Digest realm="r", nonce="1", algorithm=SHA-512-256"#, "an algorithm other than"),
            (r#"Digest realm="r", nonce="1", qop="auth-int""#, "auth-int"),
            (r#"Digest realm="r", nonce="1", algorithm=MD5-sess"#, "a session without qop"),
            (r#"Digest realm="r""#, "no realm or no nonce"),
            ("Digest", "no realm or no nonce"),
        ] {
            let why = Challenge::choose([value]).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
