//! Which kinds of answer a client takes, by its `Accept` (RFC 9110, section 12.5.1). Lenient where real clients
//! need it: one that says nothing takes what is usual for the request.

use ureq_proto::http::{HeaderMap, header};

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Accept {
    /// A POST may be answered with JSON.
    pub json: bool,
    /// A POST may be answered with events. They are for those who ask for them: who takes just anything gets JSON.
    pub events: bool,
    /// A GET may be answered with events.
    pub stream: bool,
}

impl Accept {
    /// What all lines of `Accept` say together.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT).iter().map(|line| line.to_str().unwrap_or("?"));
        let mut kinds = lines.flat_map(|line| line.split(',')).filter(|kind| !kind.trim().is_empty()).peekable();
        let mut accept = Self::default();
        if kinds.peek().is_none() {
            accept.add("*/*");
        }
        kinds.for_each(|kind| accept.add(kind));
        accept
    }

    fn add(&mut self, kind: &str) {
        let mut parts = kind.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        if parts.any(is_never) {
            return;
        }
        match name.as_str() {
            "application/json" | "application/*" => self.json = true,
            "text/event-stream" | "text/*" => (self.events, self.stream) = (true, true),
            "*/*" | "*" => (self.json, self.stream) = (true, true), // Java's old clients say `*`
            _ => {}
        }
    }
}

/// A weight of nothing: the client does not take this kind.
fn is_never(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_what() {
        for (lines, json, events, stream) in [
            (&[][..], true, false, true),
            (&[""], true, false, true),
            (&["application/json, text/event-stream"], true, true, true),
            (&["text/event-stream", "application/json"], true, true, true),
            (&["Application/JSON;charset=utf-8 , TEXT/Event-Stream;q=0.5"], true, true, true),
            (&["application/json"], true, false, false),
            (&["application/*"], true, false, false),
            (&["text/event-stream"], false, true, true),
            (&["text/*"], false, true, true),
            (&["*/*"], true, false, true),
            (&["*/*;q=0.1, text/event-stream"], true, true, true),
            (&["text/html, image/gif, *; q=.2, */*; q=.2"], true, false, true),
            (&["application/json;q=0, text/event-stream"], false, true, true),
            (&["application/json, text/event-stream; q=0.000"], true, false, false),
            (&["text/html"], false, false, false),
            (&["application/jsonp, text/event-streams"], false, false, false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, line.parse().unwrap());
            }
            let accept = Accept::of(&headers);
            assert_eq!(accept, Accept { json, events, stream }, "{lines:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, ureq_proto::http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Accept::of(&headers), Accept::default());
    }
}
