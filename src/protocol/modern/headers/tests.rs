//! What a modern POST says in its headers, example by example.

use super::*;
use crate::protocol::message::Id;

const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#
);

fn request(method: &str, params: &str) -> Message {
    Message::request(&Id::number(7), method, params)
}

#[test]
fn values_are_encoded_as_the_specification_shows() {
    for (value, header) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("us west 1", "us west 1"),
        ("\tindented", "=?base64?CWluZGVudGVk?="),
        ("a\tb", "=?base64?YQli?="),
        ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
        ("=?Base64?x?=", "=?Base64?x?="),
        ("=?base64?x", "=?base64?x"),
        ("", ""),
        ("\u{7f}", "=?base64?fw==?="),
    ] {
        assert_eq!(encode(value), header);
        assert_eq!(decode(header).as_deref(), Ok(value));
    }
}

#[test]
fn what_is_no_value_is_malformed() {
    for (header, wanted) in [
        ("=?base64?SGVsbG8=?=", Ok("Hello")),
        (" \tx\t ", Ok("x")),
        ("=?base64?=", Ok("=?base64?=")),
        ("=?base64??=", Ok("")),
        ("SGVsbG8=", Ok("SGVsbG8=")),
        ("=?base64?SGVsbG8=", Ok("=?base64?SGVsbG8=")),
        ("=?base64?SGVsbG8?=", Err(Malformed)),
        ("=?base64?SGVs!!!bG8=?=", Err(Malformed)),
        ("=?base64?/w==?=", Err(Malformed)),
        ("=?base64?SGVsbG9=?=", Err(Malformed)),
        ("a\u{0}", Err(Malformed)),
        ("a\nb", Err(Malformed)),
        ("é", Err(Malformed)),
    ] {
        assert_eq!(decode(header).as_deref(), wanted.as_ref().copied(), "{header:?}");
    }
}

/// Every text of up to five pieces of what is nasty.
#[test]
fn whatever_is_encoded_is_legal_and_comes_back() {
    let pieces = ["=?base64?", "?=", "=", "?", " ", "\t", "\n", "\r", "\0", "\u{7f}", "é", "世", "a", "/", "Zg=="];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        let longer = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}")));
        texts = longer.chain([String::new()]).collect();
        for text in &texts {
            let header = encode(text);
            assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}: {header:?}");
            assert_eq!(header.trim(), header, "{text:?}");
            assert_eq!(decode(&header).as_deref(), Ok(&**text));
        }
    }
    assert!(texts.len() > 50_000);
}

#[test]
fn headers_say_what_the_body_says() {
    let version = (VERSION, "2026-07-28");
    for (method, params, wanted) in [
        ("tools/list", META, vec![version, (METHOD, "tools/list")]),
        ("tools/call", r#""name":"a b","uri":"u""#, vec![(METHOD, "tools/call"), (NAME, "a b")]),
        ("prompts/get", r#""name":"\u00e9""#, vec![(METHOD, "prompts/get"), (NAME, "=?base64?w6k=?=")]),
        ("resources/read", r#""name":"n","uri":"u:/""#, vec![(METHOD, "resources/read"), (NAME, "u:/")]),
        ("tasks/get", r#""taskId":"t""#, vec![(METHOD, "tasks/get"), (NAME, "t")]),
        ("tools/call", r#""name":7"#, vec![(METHOD, "tools/call")]),
        ("a\nb", "", vec![(METHOD, "=?base64?YQpi?=")]),
    ] {
        let found = of(&request(method, &format!("{{{params}}}")));
        let found: Vec<_> = found.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(found, wanted, "{method}");
    }
    let notification = Message::notification("tools/call", r#"{"name":"x"}"#);
    assert_eq!(of(&notification), [(METHOD, "tools/call".to_owned())]);
}

/// What comes of a request with these members in its params and these headers: a code and a text.
fn checked(method: &str, params: &str, given: [Option<&str>; 3]) -> Option<(i64, String)> {
    let [version, method_given, name] = given;
    let given = Given { version, method: method_given, name };
    let request = request(method, &format!("{{{params}}}"));
    let error = check(&request, &given, &["2026-07-28", "2025-11-25"]).err()?;
    assert_eq!(error.id(), Some(&Id::number(7)));
    let text = crate::protocol::member::string(error.text(), &["error", "message"])?;
    Some((error.error_code()?, text))
}

#[test]
fn what_differs_is_refused_in_order() {
    let (now, list, call) = (Some("2026-07-28"), Some("tools/list"), Some("tools/call"));
    let code = |method: &str, params: &str, given| checked(method, params, given).map(|(code, _)| code);
    let meta = |members: &str| format!(r#""_meta":{{{members}}}"#);
    let version = |text: &str| {
        let own = META.replace("2026-07-28", text);
        checked("tools/list", &own, [Some(text), list, None]).map(|(code, _)| code)
    };
    // The body first, whatever the headers are.
    for params in [
        String::new(),
        meta(""),
        r#""_meta":null"#.into(),
        meta(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#),
        meta(r#""io.modelcontextprotocol/clientCapabilities":{}"#),
        META.replace(r#""2026-07-28""#, "7"),
        META.replace(r#""2026-07-28""#, "null"),
        META.replace("{}", "null"),
        META.replace("{}", "[]"),
        format!("{META},{META}"),
        META.replace("{}", r#"{},"io.modelcontextprotocol/protocolversion":"1""#),
    ] {
        for given in [[now, list, None], [None, None, None]] {
            assert_eq!(code("tools/list", &params, given), Some(-32602), "{params}");
        }
    }
    // Then the headers, before the revision.
    let old = META.replace("2026-07-28", "1900-01-01");
    for (method, params, given, wanted) in [
        ("tools/list", META, [now, list, None], None),
        ("tools/list", META, [Some(" 2026-07-28 "), Some(" tools/list"), Some("whatever")], None),
        ("tools/list", META, [None, list, None], Some(-32020)),
        ("tools/list", META, [now, None, None], Some(-32020)),
        ("tools/list", META, [now, Some("TOOLS/LIST"), None], Some(-32020)),
        ("tools/list", META, [Some("2025-11-25"), list, None], Some(-32020)),
        ("tools/list", &old, [now, list, None], Some(-32020)),
        ("tools/list", &old, [Some("1900-01-01"), None, None], Some(-32020)),
        ("tools/list", &old, [Some("1900-01-01"), list, None], Some(-32022)),
        ("initialize", META, [now, Some("initialize"), None], None),
        ("tools/call", META, [now, call, None], None),
        ("tools/call", META, [now, call, Some("x")], Some(-32020)),
    ] {
        assert_eq!(code(method, params, given), wanted, "{method} {given:?}");
    }
    for (text, wanted) in [
        ("2026-07-28", None),
        ("2027-01-01", None),
        ("2025-11-25", Some(-32022)),
        ("2026-07-27", Some(-32022)),
        ("v999.0.0", Some(-32022)),
        ("9", Some(-32022)),
        ("3000-1-01x", Some(-32022)),
    ] {
        assert_eq!(version(text), wanted, "{text}");
    }
}

#[test]
fn names_are_compared_decoded() {
    let now = Some("2026-07-28");
    for (method, member, given, wanted) in [
        ("tools/call", r#""name":"foo""#, Some("foo"), None),
        ("tools/call", r#""name":"foo""#, Some("  foo  "), None),
        ("tools/call", r#""name":"f\u006fo""#, Some("=?base64?Zm9v?="), None),
        (
            "prompts/get",
            r#""name":"foo","uri":"u""#,
            Some("u"),
            Some("Mcp-Name header value 'u' does not match body value 'foo'"),
        ),
        ("resources/read", r#""name":"foo","uri":"u""#, Some("u"), None),
        (
            "tools/call",
            r#""name":"bar""#,
            Some("foo"),
            Some("Mcp-Name header value 'foo' does not match body value 'bar'"),
        ),
        ("tools/call", r#""name":"foo""#, None, Some("the Mcp-Name header is missing")),
        ("tools/call", r#""name":"foo""#, Some("=?base64?Zm9?="), Some("the Mcp-Name header is malformed")),
        (
            "tools/call",
            r#""name":"foo","name":"foo""#,
            Some("foo"),
            Some("'name' stands twice in the body, or in another case"),
        ),
        (
            "tools/call",
            r#""name":"foo","NAME":"bar""#,
            Some("foo"),
            Some("'name' stands twice in the body, or in another case"),
        ),
        ("tasks/get", r#""taskId":"t""#, None, None),
        ("tasks/get", r#""taskId":"t""#, Some("t"), None),
        ("tasks/get", r#""taskId":"t""#, Some("u"), Some("Mcp-Name header value 'u' does not match body value 't'")),
    ] {
        let found = checked(method, &format!("{META},{member}"), [now, Some(method), given]);
        let wanted = wanted.map(|text| (-32020, format!("Header mismatch: {text}")));
        assert_eq!(found, wanted, "{method} {member} {given:?}");
    }
}

#[test]
fn an_unknown_revision_is_told_those_that_are_known() {
    let request = request("tools/list", &format!("{{{}}}", META.replace("2026-07-28", "1\\\"")));
    let given = Given { version: Some("1\""), method: Some("tools/list"), name: None };
    let error = check(&request, &given, &["2026-07-28"]).unwrap_err();
    let wanted = r#""error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"1\""}}}"#;
    assert!(error.text().ends_with(wanted), "{}", error.text());
}

#[test]
fn notifications_have_nothing_to_check() {
    assert_eq!(check(&Message::notification("x", "{}"), &Given::default(), &[]), Ok(()));
}

#[test]
fn long_values_are_not_repeated_whole() {
    let name = "é".repeat(10_000);
    let params = format!(r#"{META},"name":"{name}""#);
    let (code, text) = checked("tools/call", &params, [Some("2026-07-28"), Some("tools/call"), Some("x")]).unwrap();
    assert!(code == -32020 && text.len() < 600, "{text}");
}

#[test]
fn some_errors_have_a_status() {
    for (code, wanted) in
        [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32602, 200), (-32603, 200), (1, 200)]
    {
        assert_eq!(status(&Message::error(Some(&Id::number(1)), code, "no")), wanted, "{code}");
    }
    assert_eq!(status(&Message::result(&Id::number(1), r#"{"error":{"code":-32601}}"#)), 200);
}
