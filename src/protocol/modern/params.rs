//! Parameters of tools that a modern POST repeats in headers: `x-mcp-header` and `Mcp-Param-…` (MCP 2026-07-28,
//! `basic/transports/streamable-http`, "Custom Headers from Tool Parameters").
//!
//! Always: only what the specification allows is remembered, and of that no more than [`MOST_TOOLS`] and
//! [`MOST_BYTES`]; a tool list is looked at only where it has an annotation, or one is remembered.

mod annotations;
mod value;

use super::super::member;
use super::super::message::Message;
use super::super::sole::sole;
use super::headers;
use annotations::Param;
use serde_json::value::RawValue;
use std::collections::HashMap;
use value::{rendered, says_the_same};

/// Tools with annotations that are remembered.
pub const MOST_TOOLS: usize = 1000;
/// Bytes of all names that are remembered.
pub const MOST_BYTES: usize = 1 << 20;

/// What the annotation is called.
const ANNOTATION: &str = "x-mcp-header";

/// Which parameters of which tools are repeated in headers.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    tools: HashMap<String, Tool>,
    bytes: usize,
    /// How many tools were learnt.
    count: u64,
}

#[derive(Debug, Clone)]
struct Tool {
    params: Vec<Param>,
    bytes: usize,
    /// The older one has the smaller number.
    number: u64,
}

/// What comes of a list of tools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Learned {
    /// Tools that a client must not be shown, and why.
    pub rejected: Vec<(String, String)>,
    /// The result without them, if there are any.
    pub filtered: Option<String>,
}

impl Schemas {
    /// Takes the result of a `tools/list` (JSON text), which may be one page of many.
    pub fn learn(&mut self, result: &str) -> Learned {
        let mut learned = Learned::default();
        if !result.contains(ANNOTATION) && self.tools.is_empty() {
            return learned;
        }
        let tools =
            member::value(result, &["tools"]).and_then(|list| serde_json::from_str::<Vec<&RawValue>>(list).ok());
        let mut kept = Vec::new();
        for tool in tools.unwrap_or_default() {
            let name = member::string(tool.get(), &["name"]).unwrap_or_default();
            self.forget(&name);
            let params = annotations::of(tool.get());
            match params.and_then(|params| self.keep(&name, params)) {
                Ok(()) => kept.push(tool.get()),
                Err(reason) => learned.rejected.push((name, reason)),
            }
        }
        if !learned.rejected.is_empty() {
            learned.filtered = Some(member::with(result, &["tools"], &format!("[{}]", kept.join(","))));
        }
        learned
    }

    /// Whether anything of this tool is repeated in headers.
    #[must_use]
    pub fn knows(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    /// The headers that repeat parameters of this call, names in lower case.
    #[must_use]
    pub fn headers(&self, message: &Message) -> Vec<(String, String)> {
        let Some(Call { tool, arguments }) = self.call(message) else { return Vec::new() };
        let said = |param: &Param| {
            let said = rendered(param.find(arguments).ok()??)?;
            Some((param.name(), headers::encode(&said).into_owned()))
        };
        tool.params.iter().filter_map(said).collect()
    }

    /// Checks that the headers of this call repeat what they have to; `given` tells what the header of this name, in
    /// lower case, says. Of one that stands more than once it tells all values in a row, as HTTP joins them.
    ///
    /// # Errors
    /// The JSON-RPC error that answers the call; its HTTP status is 400.
    pub fn check(&self, message: &Message, given: &dyn Fn(&str) -> Option<String>) -> Result<(), Box<Message>> {
        let Some(Call { tool, arguments }) = self.call(message) else { return Ok(()) };
        for param in &tool.params {
            let (header, given) = (param.header(), given(&param.name()));
            let refuse = |what: &str| Err(headers::mismatch(message, what));
            let Ok(found) = param.find(arguments) else {
                return refuse(&format!("the value that {header} repeats stands twice in the body"));
            };
            match (given, found.and_then(rendered)) {
                (None, None) => {}
                (None, Some(_)) => return refuse(&format!("the {header} header is missing")),
                (Some(_), None) => return refuse(&format!("the {header} header is given, but no value in the body")),
                (Some(given), Some(body)) => match headers::decode(&given) {
                    Err(headers::Malformed) => return refuse(&format!("the {header} header is malformed")),
                    Ok(given) if says_the_same(&given, &body, param.is_integer) => {}
                    Ok(given) => return Err(headers::differs(message, &header, &given, &body)),
                },
            }
        }
        Ok(())
    }

    /// The call of a tool that has annotations.
    fn call<'a>(&'a self, message: &'a Message) -> Option<Call<'a>> {
        if self.tools.is_empty() || message.method() != Some("tools/call") {
            return None;
        }
        // Of members that stand twice nothing is said in headers; who checks headers refuses the name.
        let [name, arguments] = sole(message.params()?, ["name", "arguments"]).ok()?;
        let name: String = serde_json::from_str(name?).ok()?;
        Some(Call { tool: self.tools.get(&name)?, arguments: arguments.unwrap_or_default() })
    }

    fn forget(&mut self, name: &str) {
        if let Some(tool) = self.tools.remove(name) {
            self.bytes -= tool.bytes;
        }
    }

    /// Remembers a tool; others are forgotten for it, the oldest first.
    fn keep(&mut self, name: &str, params: Vec<Param>) -> Result<(), String> {
        if params.is_empty() {
            return Ok(());
        }
        let bytes = name.len() + params.iter().map(Param::bytes).sum::<usize>();
        if bytes > MOST_BYTES {
            return Err(format!("its {ANNOTATION} annotations are too many to be remembered"));
        }
        while self.tools.len() >= MOST_TOOLS || self.bytes + bytes > MOST_BYTES {
            let oldest = self.tools.iter().min_by_key(|(_, tool)| tool.number).map(|(name, _)| name.clone());
            self.forget(&oldest.unwrap_or_default());
        }
        self.bytes += bytes;
        self.count += 1;
        self.tools.insert(name.to_owned(), Tool { params, bytes, number: self.count });
        Ok(())
    }
}

/// A call of a tool that has annotations.
struct Call<'a> {
    tool: &'a Tool,
    /// JSON text, if there is any.
    arguments: &'a str,
}

#[cfg(test)]
mod tests;
