//! What a legacy client says of itself once, and a modern one in each request (`basic/index`, "`_meta`").
//!
//! Always: nothing is declared for the client that it did not declare itself.

use super::super::super::edit::{Edit, edited, led_by};
use super::super::super::level::Level;
use super::super::super::member;
use super::super::super::modern::{REVISION, meta};

/// The legacy revisions. Of any that is not one of them, the client is promised the last.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// What a legacy client says it can do and a modern server is not told: tasks are others there, and what extensions
/// say among themselves is translated by nobody.
const NOT_TOLD: [&str; 2] = ["tasks", "extensions"];

/// What is known of the client; before its `initialize`, that it can do nothing.
#[derive(Debug, Clone)]
pub struct Client {
    /// The revision that it asked for, or that it is promised instead.
    revision: &'static str,
    /// JSON text.
    info: String,
    capabilities: String,
    /// What it set with `logging/setLevel`.
    level: Option<Level>,
    /// All of this as members of `_meta`.
    meta: String,
}

impl Default for Client {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let info = format!(r#"{{"name":"mcp-proxy","version":"{version}"}}"#);
        Self { revision: REVISIONS[3], info, capabilities: "{}".into(), level: None, meta: String::new() }.retold()
    }
}

impl Client {
    /// Learns what the params of `initialize` say.
    pub fn introduce(&mut self, params: &str) {
        let object = |name| member::value(params, &[name]).filter(|value| value.starts_with('{'));
        let wanted = member::string(params, &["protocolVersion"]);
        let known = REVISIONS.into_iter().find(|known| Some(*known) == wanted.as_deref());
        let fallback = Self::default();
        *self = Self {
            revision: known.unwrap_or(fallback.revision),
            info: object("clientInfo").map_or(fallback.info, str::to_owned),
            capabilities: object("capabilities").map_or(fallback.capabilities, told),
            level: self.level,
            meta: String::new(),
        }
        .retold();
    }

    /// The client has set the level from which on it wants log messages.
    pub fn set_level(&mut self, level: Level) {
        self.level = Some(level);
        *self = std::mem::take(self).retold();
    }

    /// The revision that it is promised.
    pub fn revision(&self) -> &'static str {
        self.revision
    }

    /// Params (JSON text) of a request with what a modern server must know of the client; `None` where they are no
    /// object. What the client has in `_meta` stays there.
    pub fn dressed(&self, params: Option<&str>) -> Option<String> {
        let params = params.filter(|params| *params != "null").unwrap_or("{}");
        if !params.starts_with('{') {
            return None;
        }
        let Some(place) = member::range(params, &["_meta"]) else {
            return Some(led_by(params, &format!(r#""_meta":{{{}}}"#, self.meta)));
        };
        let own = &params[place.clone()];
        let members = member::members(own).unwrap_or_default();
        let is_ours = |name: &str| {
            [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL].contains(&name)
        };
        let own = if own.starts_with('{') { own } else { "{}" };
        let own = edited(own, &members, |name, _| if is_ours(name) { Edit::Cut } else { Edit::Keep });
        Some([&params[..place.start], &led_by(&own, &self.meta), &params[place.end..]].concat())
    }

    /// The same, with the members of `_meta` that say it.
    fn retold(mut self) -> Self {
        let (version, info, capabilities) = (meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES);
        let level = self.level.map(|level| format!(r#","{}":{}"#, meta::LOG_LEVEL, level.as_json()));
        self.meta = format!(
            r#""{version}":"{REVISION}","{info}":{},"{capabilities}":{}{}"#,
            self.info,
            self.capabilities,
            level.unwrap_or_default()
        );
        self
    }

    /// The capability that this question needs and the client did not declare.
    pub fn lacks(&self, method: &str, params: &str) -> Option<&'static str> {
        let declares = |path: &[&str]| meta::declares(&self.capabilities, path);
        match method {
            "roots/list" => (!declares(&["roots"])).then_some("roots"),
            "sampling/createMessage" => (!declares(&["sampling"])).then_some("sampling"),
            _ if !declares(&["elicitation"]) => Some("elicitation"),
            _ => {
                let by_url = declares(&["elicitation", "url"]);
                // One that names no way of asking means forms (2025-11-25, `client/elicitation`, Capabilities).
                let by_form = declares(&["elicitation", "form"]) || !by_url;
                let (can, name) =
                    if is_by_url(params) { (by_url, "elicitation.url") } else { (by_form, "elicitation.form") };
                (!can).then_some(name)
            }
        }
    }
}

/// Whether the params of an elicitation send the user to a page.
pub fn is_by_url(params: &str) -> bool {
    member::string(params, &["mode"]).is_some_and(|mode| mode == "url")
}

/// What a modern server is told of a legacy client's capabilities.
fn told(capabilities: &str) -> String {
    let members = member::members(capabilities).unwrap_or_default();
    let told = edited(capabilities, &members, |name, value| match name {
        name if NOT_TOLD.contains(&name) => Edit::Cut,
        // Some write what they cannot do as null or false; the modern schema has objects only.
        _ if !value.starts_with('{') => Edit::Cut,
        "roots" => {
            let members = member::members(value).unwrap_or_default();
            let cut = |name: &str, _: &str| if name == "listChanged" { Edit::Cut } else { Edit::Keep };
            Edit::Put(edited(value, &members, cut).into_owned())
        }
        _ => Edit::Keep,
    });
    told.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduced(params: &str) -> Client {
        let mut client = Client::default();
        client.introduce(params);
        client
    }

    #[test]
    fn what_is_told_of_a_client() {
        for (declared, wanted) in [
            ("{}", "{}"),
            (r#"{"roots":{"listChanged":true},"tasks":{"list":{}}}"#, r#"{"roots":{}}"#),
            (r#"{"sampling": {"tools":{}}, "roots": null}"#, r#"{"sampling": {"tools":{}}}"#),
            (r#"{"elicitation":{"url":{}},"extensions":{"x/y":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"experimental":{"x":{"n":1.0}},"own":{}}"#, r#"{"experimental":{"x":{"n":1.0}},"own":{}}"#),
        ] {
            assert_eq!(introduced(&format!(r#"{{"capabilities":{declared}}}"#)).capabilities, wanted);
        }
        for params in ["", "[]", "{}", r#"{"capabilities":[],"clientInfo":7,"protocolVersion":1}"#] {
            let client = introduced(params);
            assert_eq!((client.revision, &*client.capabilities), ("2025-11-25", "{}"));
            assert!(client.info.contains("mcp-proxy"), "{params}");
        }
    }

    #[test]
    fn the_members_of_a_request_stay() {
        let client = introduced(r#"{"clientInfo":{"name":"x" },"capabilities":{}}"#);
        let meta = client.meta.clone();
        for (params, wanted) in [
            (None, Some(r#"{"_meta":{META}}"#)),
            (Some("null"), Some(r#"{"_meta":{META}}"#)),
            (Some("{ }"), Some(r#"{"_meta":{META} }"#)),
            (Some("[1]"), None),
            (Some("7"), None),
            (Some(r#"{"a" : 1.0}"#), Some(r#"{"_meta":{META},"a" : 1.0}"#)),
            (Some(r#"{"a":1,"_meta":{ }}"#), Some(r#"{"a":1,"_meta":{META }}"#)),
            (Some(r#"{"_meta":null,"a":1}"#), Some(r#"{"_meta":{META},"a":1}"#)),
            (Some(r#"{"_meta": {"progressToken": 1e2} }"#), Some(r#"{"_meta": {META,"progressToken": 1e2} }"#)),
            (
                Some(r#"{"_meta":{"io.modelcontextprotocol/logLevel":"x","io.modelcontextprotocol/other":1}}"#),
                Some(r#"{"_meta":{META,"io.modelcontextprotocol/other":1}}"#),
            ),
        ] {
            let wanted = wanted.map(|wanted| wanted.replace("META", &meta));
            assert_eq!(client.dressed(params), wanted, "{params:?}");
        }
    }

    #[test]
    fn what_a_client_cannot_be_asked() {
        let (form, url) = (r#"{"mode":"form"}"#, r#"{"mode":"url"}"#);
        for (declared, method, params, wanted) in [
            ("{}", "roots/list", "", Some("roots")),
            (r#"{"roots":{}}"#, "roots/list", "", None),
            ("{}", "sampling/createMessage", "", Some("sampling")),
            (r#"{"sampling":{}}"#, "sampling/createMessage", "", None),
            ("{}", "elicitation/create", form, Some("elicitation")),
            (r#"{"elicitation":{}}"#, "elicitation/create", "{}", None),
            (r#"{"elicitation":{}}"#, "elicitation/create", url, Some("elicitation.url")),
            (r#"{"elicitation":{"form":{}}}"#, "elicitation/create", url, Some("elicitation.url")),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", url, None),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", form, Some("elicitation.form")),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, "elicitation/create", form, None),
        ] {
            let client = introduced(&format!(r#"{{"capabilities":{declared}}}"#));
            assert_eq!(client.lacks(method, params), wanted, "{declared} {method} {params}");
        }
    }
}
