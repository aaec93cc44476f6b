//! What is asked of the params of a message again and again, looked for once.
//!
//! Always: what is noted is what [`member::value`] and [`sole`] find in the params.

use super::member;
use super::modern::meta;
use super::sole::{Ambiguous, folds_to};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A member of `params`, or of the `_meta` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    Meta,
    Name,
    Uri,
    TaskId,
    RequestState,
    InputResponses,
    ProgressToken,
    ProtocolVersion,
    ClientInfo,
    ClientCapabilities,
    LogLevel,
    SubscriptionId,
}

const IN_PARAMS: [&str; 6] = ["_meta", "name", "uri", "taskId", "requestState", "inputResponses"];
const IN_META: [&str; 6] = [
    "progressToken",
    meta::PROTOCOL_VERSION,
    meta::CLIENT_INFO,
    meta::CLIENT_CAPABILITIES,
    meta::LOG_LEVEL,
    meta::SUBSCRIPTION_ID,
];

/// What was found, once somebody has asked. It is no part of what a message is.
#[derive(Debug, Clone, Default)]
pub struct Noted(OnceLock<Arc<[Member; IN_PARAMS.len() + IN_META.len()]>>);

/// Where a value stands in the params; the last one, if there are more.
#[derive(Debug, Clone, Default)]
struct Member {
    place: Option<Range<usize>>,
    /// Not every reader finds this one.
    is_ambiguous: bool,
}

impl PartialEq for Noted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Noted {}

impl Noted {
    /// The value as JSON text; `params` are always the same.
    pub fn value<'a>(&self, params: &'a str, name: Param) -> Option<&'a str> {
        params.get(self.read(params)[name as usize].place.clone()?)
    }

    /// The values as JSON text.
    ///
    /// # Errors
    /// One of them stands there twice, or its name does in another case.
    pub fn sole<'a, const N: usize>(
        &self,
        params: &'a str,
        names: [Param; N],
    ) -> Result<[Option<&'a str>; N], Ambiguous> {
        let all = self.read(params);
        let is_ambiguous = |name: &Param| {
            let is_deep = *name as usize >= IN_PARAMS.len();
            all[*name as usize].is_ambiguous || is_deep && all[Param::Meta as usize].is_ambiguous
        };
        if names.iter().any(is_ambiguous) {
            return Err(Ambiguous);
        }
        Ok(names.map(|name| params.get(all[name as usize].place.clone()?)))
    }

    /// Whether somebody has asked.
    pub fn is_read(&self) -> bool {
        self.0.get().is_some()
    }

    fn read(&self, params: &str) -> &[Member; IN_PARAMS.len() + IN_META.len()] {
        self.0.get_or_init(|| {
            let mut all = <[Member; IN_PARAMS.len() + IN_META.len()]>::default();
            let (outer, inner) = all.split_at_mut(IN_PARAMS.len());
            outer.clone_from_slice(&look(params, params, IN_PARAMS));
            if let Some(meta) = outer[Param::Meta as usize].place.clone() {
                inner.clone_from_slice(&look(params, &params[meta], IN_META));
            }
            Arc::new(all)
        })
    }
}

/// Looks for these members of an object that is a part of the params.
fn look<const N: usize>(params: &str, object: &str, names: [&str; N]) -> [Member; N] {
    let nothing = |is_ambiguous| names.map(|_| Member { place: None, is_ambiguous });
    let see = |found: &mut [Member; N], name: Cow<'_, str>, value: &str| match names.iter().position(|one| *one == name)
    {
        Some(at) => {
            let start = value.as_ptr() as usize - params.as_ptr() as usize;
            found[at].is_ambiguous |= found[at].place.replace(start..start + value.len()).is_some();
        }
        None => {
            for (wanted, found) in names.iter().zip(found) {
                found.is_ambiguous |= folds_to(&name, wanted);
            }
        }
    };
    // No object has no members; in half of one, readers may find anything.
    member::gathered(object, || nothing(false), see).unwrap_or_else(|| nothing(object.starts_with('{')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sole::sole;

    const ALL: [Param; 12] = [
        Param::Meta,
        Param::Name,
        Param::Uri,
        Param::TaskId,
        Param::RequestState,
        Param::InputResponses,
        Param::ProgressToken,
        Param::ProtocolVersion,
        Param::ClientInfo,
        Param::ClientCapabilities,
        Param::LogLevel,
        Param::SubscriptionId,
    ];

    /// What is noted is what a look at the params finds.
    fn check(params: &str) {
        let noted = Noted::default();
        let meta = sole(params, ["_meta"]).map(|[meta]| meta.unwrap_or_default());
        for (at, name) in ALL.into_iter().enumerate() {
            assert_eq!(name as usize, at);
            let (path, alone) = if let Some(text) = IN_PARAMS.get(at) {
                (vec![*text], sole(params, [text]))
            } else {
                let text = IN_META[at - IN_PARAMS.len()];
                (vec!["_meta", text], meta.and_then(|meta| sole(meta, [text])))
            };
            assert_eq!(noted.value(params, name), member::value(params, &path), "{name:?} {params}");
            assert_eq!(noted.sole(params, [name]), alone, "{name:?} {params}");
        }
    }

    #[test]
    fn what_is_noted_is_what_is_there() {
        let all = format!(
            r#"{{"name":"n","uri":1,"taskId":[],"requestState":"s","inputResponses":{{}},"x":2,"_meta":{{"progressToken":1,"{}":"v","{}":{{}},"{}":2,"{}":3,"{}":4,"x/y":5}}}}"#,
            IN_META[1], IN_META[2], IN_META[3], IN_META[4], IN_META[5]
        );
        let mut texts: Vec<String> = ["", "7", "[]", "{}", "{", "{\"_meta\":", r#"{"_meta":7}"#].map(Into::into).into();
        texts.push(all.replace(r#""x":2"#, r#""_META":{}"#));
        texts.push(all.replace(r#""x":2"#, r#""_meta":{"progressToken":7}"#));
        texts.push(all.replace(r#""x/y""#, r#""\u0070rogressToken""#));
        for name in IN_PARAMS.iter().chain(&IN_META) {
            texts.push(all.replace(name, &name.replacen('e', "E", 1)));
            texts.push(all.replace(name, &name.replacen('e', "\\u0065", 1)));
            texts.push(all.replace(r#""x":2"#, &format!(r#""{name}":2"#)));
            texts.push(all.replace(r#""x/y""#, &format!(r#""{name}""#)));
            texts.push(all.replace(r#""x/y""#, &format!(r#""{}""#, name.to_uppercase())));
        }
        texts.push(all);
        for text in texts {
            check(&text);
        }
    }
}
