//! An event of the log as JSON: one object a line. What is too long for a line goes on in further objects, so that
//! each is whole, and short enough to be written in one piece.

use super::shortened;
use std::fmt::Write;

/// An event, without what it says.
pub(super) struct Event<'a> {
    /// The name of its level.
    pub level: &'static str,
    /// Who says it.
    pub source: Source<'a>,
}

/// Who says something.
pub(super) enum Source<'a> {
    /// We ourselves.
    Own,
    /// A server in its own log, with its name where there are several.
    Server(Option<&'a str>),
}

impl Event<'_> {
    /// The lines that say `text`, none of them longer than `limit` bytes as long as that leaves room for some text.
    pub fn objects(&self, time: &str, text: &str, limit: usize) -> Vec<String> {
        let mut objects = vec![self.start(time, false)];
        let room = limit.saturating_sub(self.start(time, true).len() + END.len()).max(LEAST_BYTES);
        let mut used = 0;
        for c in text.chars() {
            let length = escaped_length(c);
            if used + length > room {
                objects.push(self.start(time, true));
                used = 0;
            }
            used += length;
            escape(objects.last_mut().expect("there is one"), c);
        }
        for object in &mut objects {
            object.push_str(END);
        }
        objects
    }

    fn start(&self, time: &str, continued: bool) -> String {
        let mut start = format!(r#"{{"time":"{time}","level":"{}""#, self.level);
        if let Source::Server(server) = self.source {
            start.push_str(r#","source":"server""#);
            if let Some(name) = server {
                start.push_str(r#","server":""#);
                shortened(name.as_bytes()).chars().for_each(|c| escape(&mut start, c));
                start.push('"');
            }
        }
        if continued {
            start.push_str(r#","continued":true"#);
        }
        start.push_str(r#","message":""#);
        start
    }
}

const END: &str = "\"}\n";
/// Each object says at least so much.
const LEAST_BYTES: usize = 64;

fn escape(text: &mut String, c: char) {
    match c {
        '"' | '\\' => text.extend(['\\', c]),
        c if c.is_control() => {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        }
        c => text.push(c),
    }
}

fn escaped_length(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const TIME: &str = "2026-07-28T12:00:00.123Z";
    const OWN: Event<'_> = Event { level: "info", source: Source::Own };

    #[test]
    fn one_object_a_line() {
        let named = |server| Event { level: "info", source: Source::Server(server) };
        for (event, text, wanted) in [
            (&OWN, "ready", r#"{"time":"2026-07-28T12:00:00.123Z","level":"info","message":"ready"}"#),
            (&OWN, "", r#"{"time":"2026-07-28T12:00:00.123Z","level":"info","message":""}"#),
            (
                &named(None),
                "a",
                r#"{"time":"2026-07-28T12:00:00.123Z","level":"info","source":"server","message":"a"}"#,
            ),
            (
                &named(Some("x\"y")),
                "a",
                r#"{"time":"2026-07-28T12:00:00.123Z","level":"info","source":"server","server":"x\"y","message":"a"}"#,
            ),
        ] {
            assert_eq!(event.objects(TIME, text, 4096), [format!("{wanted}\n")]);
        }
    }

    #[test]
    fn whatever_is_said_is_json_and_comes_back() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        for text in ["\"", "\\", "\n\r\t\0\x1b[1m\x7f\u{85}", "ä€\u{1f600}\u{2028}\u{fffd}", "\\u0000\\\"", &all] {
            let objects = OWN.objects(TIME, text, 1 << 20);
            let [object] = &objects[..] else { panic!("{} objects", objects.len()) };
            assert_eq!(object.find(|c: char| c.is_control()), Some(object.len() - 1));
            let value: Value = serde_json::from_str(object).unwrap();
            assert_eq!(value["message"], text);
        }
    }

    #[test]
    fn what_is_too_long_goes_on() {
        let name = "n".repeat(5000);
        for (source, text) in [
            (Source::Own, "x".repeat(10_000)),
            (Source::Server(None), "\x1b\"ä\u{1f600}".repeat(3000)),
            (Source::Server(Some("name")), "\u{1f600}".repeat(3000)),
            (Source::Server(Some(&*name)), "y".repeat(5000)),
        ] {
            let event = Event { level: "info", source };
            for limit in [4096, 1000, 512] {
                let objects = event.objects(TIME, &text, limit);
                assert!(objects.len() > 1 && objects.iter().all(|object| object.len() <= limit), "{limit}");
                let values: Vec<Value> = objects.iter().map(|object| serde_json::from_str(object).unwrap()).collect();
                let said: String = values.iter().filter_map(|value| value["message"].as_str()).collect();
                assert_eq!(said, text);
                let continued: Vec<_> = values.iter().map(|value| value["continued"] == true).collect();
                assert!(!continued[0] && continued[1..].iter().all(|continued| *continued));
            }
        }
        assert!(OWN.objects(TIME, "some text", 0).concat().ends_with("\"message\":\"some text\"}\n"));
    }
}
