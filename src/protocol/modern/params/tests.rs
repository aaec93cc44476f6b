//! Lists of tools and calls, rule by rule.

use super::*;
use crate::protocol::message::Id;

/// A result with one tool for each schema, called `t0`, `t1`, …
fn listed(schemas: &[&str]) -> String {
    let tools = schemas.iter().enumerate();
    let tools: Vec<_> = tools.map(|(at, schema)| format!(r#"{{"name":"t{at}","inputSchema":{schema}}}"#)).collect();
    format!(r#"{{"ttlMs":1.0,"tools":[{}],"resultType":"complete"}}"#, tools.join(", "))
}

/// The schema of these properties.
fn object(properties: &str) -> String {
    format!(r#"{{"type":"object","properties":{{{properties}}}}}"#)
}

fn call(arguments: &str) -> Message {
    Message::request(&Id::number(7), "tools/call", &format!(r#"{{"name":"t0","arguments":{arguments}}}"#))
}

/// What `t0` with these properties is rejected for.
fn rejected(properties: &str) -> Option<String> {
    let mut schemas = Schemas::default();
    let mut learned = schemas.learn(&listed(&[&object(properties), "{}"]));
    assert_eq!(learned.filtered.is_some(), !learned.rejected.is_empty());
    let (name, reason) = learned.rejected.pop()?;
    assert_eq!((&*name, schemas.knows("t0")), ("t0", false));
    assert!(learned.filtered.is_some_and(|text| !text.contains("t0") && text.contains(r#"[{"name":"t1""#)));
    Some(reason)
}

#[test]
fn what_the_specification_allows_is_learnt() {
    for properties in [
        r#""a":{"type":"string","x-mcp-header":"Region"}"#,
        r#""a":{"type":"integer","x-mcp-header":"!#$%&'*+-.^_`|~09azAZ"}"#,
        r#""a":{"x-mcp-header":"A","type":"boolean"},"b":{"type":"number"},"c":{"type":"string","x-mcp-header":"C"}"#,
        r#""a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"A"}}}"#,
        r#""properties":{"type":"string","x-mcp-header":"A"},"items":{"type":"string","x-mcp-header":"B"}"#,
        // Data is no schema.
        r#""a":{"type":"string","x-mcp-header":"A","default":{"x-mcp-header":""},"enum":[{"x-mcp-header":""}]}"#,
        r#""x-mcp-header":{"type":"string","x-mcp-header":"A"}"#,
        r#""a":{"type":"string","maximum":1e999,"x-mcp-header":"A"}"#,
    ] {
        assert_eq!(rejected(properties), None, "{properties}");
        let mut schemas = Schemas::default();
        schemas.learn(&listed(&[&object(properties)]));
        assert!(schemas.knows("t0"), "{properties}");
    }
}

#[test]
fn what_it_does_not_allow_is_rejected() {
    let names = [r#""""#, r#""My Region""#, r#""a:b""#, r#""Région""#, r#""a\tb""#, r#""a\r\nb""#, "7", "null", "{}"];
    for name in names {
        let reason = rejected(&format!(r#""a":{{"type":"string","x-mcp-header":{name}}}"#)).unwrap();
        assert!(reason.contains(r#"of "a" is no"#), "{name}: {reason}");
    }
    for of_type in [r#""number""#, r#""object""#, r#""array""#, r#""null""#, r#"["string","null"]"#, "7", "null"] {
        let reason = rejected(&format!(r#""a":{{"type":{of_type},"x-mcp-header":"A"}}"#)).unwrap();
        assert!(reason.ends_with("can be in a header"), "{of_type}: {reason}");
    }
    assert!(rejected(r#""a":{"x-mcp-header":"A"}"#).is_some());
    for pair in [["Region", "Region"], ["MyField", "myfield"]] {
        let [a, b] = pair.map(|name| format!(r#"{{"type":"string","x-mcp-header":"{name}"}}"#));
        for properties in [format!(r#""a":{a},"b":{b}"#), format!(r#""a":{a},"o":{{"properties":{{"b":{b}}}}}"#)] {
            assert!(rejected(&properties).unwrap().ends_with("stands at two properties"), "{properties}");
        }
    }
    let good = r#"{"type":"string","x-mcp-header":"A"}"#;
    for keyword in annotations_elsewhere() {
        for value in [
            good.to_owned(),
            format!("[{good}]"),
            format!(r#"{{"p":{good}}}"#),
            format!(r#"{{"properties":{{"p":{good}}}}}"#),
        ] {
            let is_map =
                ["patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"].contains(&keyword);
            let reason = rejected(&format!(r#""a":{{"type":"object","{keyword}":{value}}}"#));
            let is_schema = if is_map { value.starts_with(r#"{"p":"#) } else { !value.starts_with(r#"{"p":"#) };
            // In `{"properties":…}` under `$defs`, "properties" is the name of a schema whose keyword is "p": data.
            assert_eq!(reason.is_some(), is_schema, "{keyword} {value} {reason:?}");
        }
    }
    let mut schemas = Schemas::default();
    let root = schemas.learn(&listed(&[r#"{"type":"object","x-mcp-header":"A"}"#]));
    assert_eq!(root.rejected.len(), 1);
    let deep = (0..40).fold(good.to_owned(), |inner, _| format!(r#"{{"properties":{{"a":{inner}}}}}"#));
    assert!(rejected(&format!(r#""a":{deep}"#)).unwrap().contains("too deep"));
    let deeper = format!(r#""a":{}{}"#, r#"{"properties":{"a":"#.repeat(5000), "{}".to_owned() + &"}}".repeat(5000));
    assert_eq!(rejected(&deeper), None);
}

fn annotations_elsewhere() -> impl Iterator<Item = &'static str> {
    let words = "items prefixItems additionalItems contains unevaluatedItems additionalProperties propertyNames \
        unevaluatedProperties contentSchema allOf anyOf oneOf not if then else patternProperties dependentSchemas \
        dependencies $defs definitions";
    words.split_whitespace()
}

#[test]
fn the_others_stay_as_they_are() {
    let mut schemas = Schemas::default();
    let (good, bad) =
        (r#"{"a":{"type":"string","x-mcp-header":"A"}}"#, r#"{"a":{"type":"number","x-mcp-header":"A"}}"#);
    let tools = [
        format!(r#"{{"name":"bad","inputSchema":{{"properties":{bad}}}}}"#),
        format!(r#"{{"x":1.0, "name" : "good","inputSchema":{{"properties":{good}}}}}"#),
        r#"{"name":"plain","x":1e999,"description":"x-mcp-header"}"#.to_owned(),
    ];
    let result = format!(r#"{{ "tools" : [{}],"nextCursor":"c" }}"#, tools.join(" , "));
    let learned = schemas.learn(&result);
    assert_eq!(learned.rejected.len(), 1);
    let wanted = format!(r#"{{ "tools" : [{},{}],"nextCursor":"c" }}"#, tools[1], tools[2]);
    assert_eq!(learned.filtered, Some(wanted));
    assert!(schemas.knows("good") && !schemas.knows("bad") && !schemas.knows("plain"));
}

#[test]
fn a_tool_that_lost_its_annotations_is_forgotten() {
    let mut schemas = Schemas::default();
    let annotated = object(r#""a":{"type":"string","x-mcp-header":"A"}"#);
    schemas.learn(&listed(&[&annotated, &annotated]));
    assert!(schemas.knows("t0") && schemas.knows("t1"));
    assert_eq!(schemas.learn(&listed(&["{}"])), Learned::default());
    assert!(!schemas.knows("t0") && schemas.knows("t1"));
    for nonsense in ["7", "{}", r#"{"tools":7}"#, r#"{"tools":[7,null,{}]}"#, r#"{"tools":"x-mcp-header"}"#] {
        assert_eq!(schemas.learn(nonsense), Learned::default());
    }
    schemas.learn(&listed(&["{}", "{}"]));
    assert_eq!((schemas.tools.len(), schemas.bytes), (0, 0));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut schemas = Schemas::default();
    let annotated = object(r#""a":{"type":"string","x-mcp-header":"A"}"#);
    let many: Vec<_> = (0..MOST_TOOLS + 10).map(|_| &*annotated).collect();
    assert_eq!(schemas.learn(&listed(&many)), Learned::default());
    assert_eq!(schemas.tools.len(), MOST_TOOLS);
    assert!(!schemas.knows("t9") && schemas.knows("t10"), "the oldest go first");
    let long = "x".repeat(MOST_BYTES / 3);
    let long = object(&format!(r#""{long}":{{"type":"string","x-mcp-header":"A"}}"#));
    schemas.learn(&listed(&[&long, &long, &long, &long]));
    assert!(schemas.bytes <= MOST_BYTES && schemas.knows("t3") && !schemas.knows("t0"));
    let longer = object(&format!(r#""{}":{{"type":"string","x-mcp-header":"A"}}"#, "x".repeat(MOST_BYTES)));
    let learned = schemas.learn(&listed(&[&longer]));
    assert!(learned.rejected[0].1.contains("too many"));
    let sum: usize = schemas.tools.values().map(|tool| tool.bytes).sum();
    assert_eq!(schemas.bytes, sum);
}

/// A tool with a parameter of each type, one of them inside an object.
fn schemas() -> Schemas {
    let mut schemas = Schemas::default();
    let learned = schemas.learn(&listed(&[&object(
        r#""region":{"type":"string","x-mcp-header":"Region"},"count":{"type":"integer","x-mcp-header":"Count"},"on":{"type":"boolean","x-mcp-header":"On"},"in":{"properties":{"a.b":{"type":"string","x-mcp-header":"Deep"}}}"#,
    )]));
    assert_eq!(learned, Learned::default());
    schemas
}

#[test]
fn headers_are_said_of_values_at_their_exact_place() {
    for (arguments, wanted) in [
        (r#"{"region":"us-west1","query":"x"}"#, vec![("mcp-param-region", "us-west1")]),
        (r#"{"region":" é","on":false}"#, vec![("mcp-param-region", "=?base64?IMOp?="), ("mcp-param-on", "false")]),
        (r#"{"count":42,"region":null}"#, vec![("mcp-param-count", "42")]),
        (r#"{"count":1152921504606846977}"#, vec![("mcp-param-count", "1152921504606846977")]),
        (r#"{"count":4.20e1,"region":""}"#, vec![("mcp-param-region", ""), ("mcp-param-count", "42")]),
        (r#"{"in":{"a.b":"x"},"a.b":"y","a":{"b":"z"}}"#, vec![("mcp-param-deep", "x")]),
        (r#"{"in":[{"a.b":"x"}],"region":{},"count":[1]}"#, vec![]),
        (r#"{"Region":"x"}"#, vec![]),
        ("{}", vec![]),
        ("null", vec![]),
        ("7", vec![]),
    ] {
        let found = schemas().headers(&call(arguments));
        let mut found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        found.sort_by_key(|(name, _)| {
            ["mcp-param-region", "mcp-param-count", "mcp-param-on"].iter().position(|n| n == name)
        });
        assert_eq!(found, wanted, "{arguments}");
        // What is said is what is checked.
        let given = |name: &str| found.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(schemas().check(&call(arguments), &given), Ok(()), "{arguments}");
    }
    let other = Message::request(&Id::number(1), "tools/call", r#"{"name":"t1","arguments":{"region":"x"}}"#);
    let prompt = Message::request(&Id::number(1), "prompts/get", r#"{"name":"t0","arguments":{"region":"x"}}"#);
    let nothing = Message::request(&Id::number(1), "tools/call", r#"{"name":"t0"}"#);
    for message in [other, prompt, nothing] {
        assert_eq!(schemas().headers(&message), []);
        assert_eq!(schemas().check(&message, &|_| None), Ok(()));
    }
}

#[test]
fn headers_must_say_what_the_body_says() {
    for (arguments, header, given, wanted) in [
        (r#"{"region":"Hello"}"#, "region", Some("=?base64?SGVsbG8=?="), None),
        (r#"{"region":"Hello"}"#, "region", Some(" Hello "), None),
        (r#"{"region":"SGVsbG8="}"#, "region", Some("SGVsbG8="), None),
        (r#"{"region":"=?base64?SGVsbG8="}"#, "region", Some("=?base64?SGVsbG8="), None),
        (
            r#"{"region":"Hello"}"#,
            "region",
            Some("=?base64?SGVsbG8?="),
            Some("the Mcp-Param-Region header is malformed"),
        ),
        (
            r#"{"region":"Hello"}"#,
            "region",
            Some("=?base64?SGVs!!!bG8=?="),
            Some("the Mcp-Param-Region header is malformed"),
        ),
        (
            r#"{"region":"x"}"#,
            "region",
            Some("x, x"),
            Some("Mcp-Param-Region header value 'x, x' does not match body value 'x'"),
        ),
        (r#"{"region":"x"}"#, "region", None, Some("the Mcp-Param-Region header is missing")),
        (
            r#"{"region":null}"#,
            "region",
            Some("x"),
            Some("the Mcp-Param-Region header is given, but no value in the body"),
        ),
        (
            r#"{"region":{}}"#,
            "region",
            Some("{}"),
            Some("the Mcp-Param-Region header is given, but no value in the body"),
        ),
        ("{}", "region", Some(""), Some("the Mcp-Param-Region header is given, but no value in the body")),
        (
            r#"{"region":"x","region":"x"}"#,
            "region",
            Some("x"),
            Some("the value that Mcp-Param-Region repeats stands twice in the body"),
        ),
        (r#"{"count":42}"#, "count", Some("42.0"), None),
        (r#"{"count":42.0}"#, "count", Some("42"), None),
        (r#"{"count":42}"#, "count", Some("=?base64?NDI=?="), None),
        (
            r#"{"count":42}"#,
            "count",
            Some("43"),
            Some("Mcp-Param-Count header value '43' does not match body value '42'"),
        ),
        (
            r#"{"count":9007199254740993}"#,
            "count",
            Some("9007199254740992"),
            Some("Mcp-Param-Count header value '9007199254740992' does not match body value '9007199254740993'"),
        ),
        (r#"{"count":1.5}"#, "count", Some("1.5"), None),
        (
            r#"{"region":"42"}"#,
            "region",
            Some("42.0"),
            Some("Mcp-Param-Region header value '42.0' does not match body value '42'"),
        ),
        (r#"{"on":true}"#, "on", Some("true"), None),
        (
            r#"{"on":true}"#,
            "on",
            Some("True"),
            Some("Mcp-Param-On header value 'True' does not match body value 'true'"),
        ),
        (r#"{"in":{"a.b":"x"}}"#, "deep", Some("x"), None),
    ] {
        let given = |name: &str| given.filter(|_| name == format!("mcp-param-{header}")).map(str::to_owned);
        let found = schemas().check(&call(arguments), &given).err();
        let text = found.as_ref().and_then(|error| member::string(error.text(), &["error", "message"]));
        assert_eq!(text, wanted.map(|text| format!("Header mismatch: {text}")), "{arguments} {header}");
        if let Some(error) = found {
            assert_eq!((error.error_code(), error.id()), (Some(-32020), Some(&Id::number(7))));
        }
    }
}
