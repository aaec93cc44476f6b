//! What a `subscriptions/listen` asks for, and what of it a legacy server can do (2026-07-28,
//! `basic/patterns/subscriptions`, Notification Filter).

use super::super::super::member;
use super::super::super::modern::meta;
use super::super::super::sole::sole;
use std::collections::BTreeSet;

/// The longest URI of one, in bytes.
const URI_BYTES: usize = 8 << 10;

/// The lists whose changes can be told: what a filter calls that, what declares it, and by what it is told.
pub const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "tools", "notifications/tools/list_changed"),
    ("promptsListChanged", "prompts", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "resources", "notifications/resources/list_changed"),
];

/// What a client wants to hear of, and may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In the order of [`LISTS`].
    pub lists: [bool; 3],
    /// Unescaped, each once.
    pub uris: Vec<String>,
}

impl Filter {
    /// What a client wants, by the params of its request.
    pub fn read(params: &str) -> Result<Self, &'static str> {
        let wrong = "params.notifications is no filter of notifications";
        let filter = member::value(params, &["notifications"]).filter(|filter| filter.starts_with('{')).ok_or(wrong)?;
        let names = [LISTS[0].0, LISTS[1].0, LISTS[2].0, "resourceSubscriptions"];
        let [a, b, c, uris] = sole(filter, names).map_err(|_| wrong)?;
        let flag = |text: Option<&str>| text.map_or(Ok(false), |text| text.parse::<bool>().map_err(|_| wrong));
        let mut seen = BTreeSet::new();
        let mut uris: Vec<String> = uris.map_or(Ok(Vec::new()), serde_json::from_str).map_err(|_| wrong)?;
        if uris.iter().any(|uri| uri.len() > URI_BYTES) {
            return Err("a URI is too long for a subscription");
        }
        uris.retain(|uri| seen.insert(uri.clone()));
        Ok(Self { lists: [flag(a)?, flag(b)?, flag(c)?], uris })
    }

    /// What of it this server can do.
    pub fn allowed(mut self, server_capabilities: &str) -> Self {
        let has = |kind: &str, name: &str| meta::declares(server_capabilities, &[kind, name]);
        for (wanted, (_, kind, _)) in self.lists.iter_mut().zip(LISTS) {
            *wanted &= has(kind, "listChanged");
        }
        if !has("resources", "subscribe") {
            self.uris.clear();
        }
        self
    }

    /// As the acknowledgement shows it: JSON text.
    pub fn shown(&self) -> String {
        let lists = self.lists.iter().zip(LISTS).filter(|(wanted, _)| **wanted);
        let mut shown: Vec<_> = lists.map(|(_, (name, _, _))| format!(r#""{name}":true"#)).collect();
        if !self.uris.is_empty() {
            shown.push(format!(r#""resourceSubscriptions":{}"#, serde_json::Value::from(self.uris.clone())));
        }
        format!("{{{}}}", shown.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_shown() {
        for (text, wanted) in [
            ("{}", Some("{}")),
            (r#"{"toolsListChanged":true,"promptsListChanged":false,"x":7}"#, Some(r#"{"toolsListChanged":true}"#)),
            (
                r#"{"resourceSubscriptions":["b","a","\u0062"],"resourcesListChanged":true}"#,
                Some(r#"{"resourcesListChanged":true,"resourceSubscriptions":["b","a"]}"#),
            ),
            ("7", None),
            ("[]", None),
            (r#"{"toolsListChanged":1}"#, None),
            (r#"{"toolsListChanged":null}"#, None),
            (r#"{"resourceSubscriptions":"a"}"#, None),
            (r#"{"resourceSubscriptions":[1]}"#, None),
            (r#"{"toolsListChanged":true,"toolsListChanged":false}"#, None),
            (r#"{"ToolsListChanged":true}"#, None),
        ] {
            let found = Filter::read(&format!(r#"{{"notifications":{text}}}"#)).ok().map(|filter| filter.shown());
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
        assert!(Filter::read("{}").is_err() && Filter::read("").is_err());
        let long = "x".repeat(URI_BYTES + 1);
        assert!(Filter::read(&format!(r#"{{"notifications":{{"resourceSubscriptions":["{long}"]}}}}"#)).is_err());
    }
}
