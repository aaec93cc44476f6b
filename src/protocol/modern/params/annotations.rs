//! The annotations of one tool: `x-mcp-header` in its `inputSchema` (MCP 2026-07-28, `basic/transports/streamable-http`,
//! "Schema Extension").
//!
//! Always: nothing that looks like a schema but is data (`default`, `enum`, …) is taken for one, and no `$ref` is
//! followed; what has no annotation inside is not looked at.

use super::super::super::member;
use super::ANNOTATION;
use serde_json::value::RawValue;

/// Schemas inside schemas that are looked at; no tool has more.
const DEEPEST: usize = 32;
/// Keywords whose value is a schema, or a list of schemas.
const SCHEMAS: [&str; 16] = [
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "contentSchema",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
];
/// Keywords whose value is an object of schemas; `properties` is the one that is allowed on the way to an annotation.
const MAPS: [&str; 5] = ["patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"];
const PROPERTIES: &str = "properties";
/// The types whose values can be repeated; a `number` has no spelling that all agree on.
const TYPES: [&str; 3] = [r#""string""#, r#""integer""#, r#""boolean""#];

/// A parameter that is repeated in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// What follows `Mcp-Param-` in the name of the header.
    token: String,
    /// The names of the properties that lead to it.
    path: Vec<String>,
    /// Its value is a whole number.
    pub is_integer: bool,
}

impl Param {
    /// The name of the header as errors show it.
    pub fn header(&self) -> String {
        format!("Mcp-Param-{}", self.token)
    }

    /// The name of the header in lower case.
    pub fn name(&self) -> String {
        self.header().to_ascii_lowercase()
    }

    /// How much is kept for it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.token.len()
            + self.path.iter().map(|name| size_of::<String>() + name.len()).sum::<usize>()
    }

    /// Its value (JSON text) among the arguments of a call.
    ///
    /// # Errors
    /// A property on the way stands twice.
    pub fn find<'a>(&self, arguments: &'a str) -> Result<Option<&'a str>, Twice> {
        let mut value = arguments;
        for name in &self.path {
            let members = member::members(value).unwrap_or_default();
            let mut found = members.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value);
            match (found.next(), found.next()) {
                (None, _) => return Ok(None),
                (Some(_), Some(_)) => return Err(Twice),
                (Some(next), None) => value = next,
            }
        }
        Ok(Some(value))
    }
}

/// Readers of the arguments would disagree on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice;

/// The annotated parameters of a tool (JSON text).
///
/// # Errors
/// Why the tool must not be used.
pub fn of(tool: &str) -> Result<Vec<Param>, String> {
    let mut found = Vec::new();
    if let Some(schema) = member::value(tool, &["inputSchema"]) {
        walk(schema, Some(&[]), 0, &mut found)?;
    }
    Ok(found)
}

/// Looks at a schema, to which `path` leads through properties only; `None` if other keywords do.
fn walk(schema: &str, path: Option<&[String]>, depth: usize, found: &mut Vec<Param>) -> Result<(), String> {
    if !schema.contains(ANNOTATION) {
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(format!("its schema is too deep to look for {ANNOTATION}"));
    }
    let members = member::members(schema).unwrap_or_default();
    let get = |wanted: &str| members.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    if let Some(token) = get(ANNOTATION) {
        let param = param(path, token, get("type"))?;
        if found.iter().any(|other: &Param| other.token.eq_ignore_ascii_case(&param.token)) {
            return Err(format!("{ANNOTATION} '{}' stands at two properties", param.token));
        }
        found.push(param);
    }
    for (name, value) in &members {
        match &**name {
            PROPERTIES => {
                for (property, schema) in member::members(value).unwrap_or_default() {
                    let path = path.map(|path| [path, &[property.into_owned()]].concat());
                    walk(schema, path.as_deref(), depth + 1, found)?;
                }
            }
            name if MAPS.contains(&name) => {
                for (_, schema) in member::members(value).unwrap_or_default() {
                    walk(schema, None, depth + 1, found)?;
                }
            }
            name if SCHEMAS.contains(&name) && value.starts_with('[') => {
                for schema in serde_json::from_str::<Vec<&RawValue>>(value).unwrap_or_default() {
                    walk(schema.get(), None, depth + 1, found)?;
                }
            }
            name if SCHEMAS.contains(&name) => walk(value, None, depth + 1, found)?,
            _ => {}
        }
    }
    Ok(())
}

/// The parameter that an annotation with this value makes of the property at `path`, which has this `type`.
fn param(path: Option<&[String]>, token: &str, of_type: Option<&str>) -> Result<Param, String> {
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return Err(format!("{ANNOTATION} stands where no chain of properties leads to"));
    };
    let place = path.join(".");
    let place = place.get(..100).unwrap_or(&place);
    let Ok(token) = serde_json::from_str::<String>(token) else {
        return Err(format!("{ANNOTATION} of {place:?} is no string"));
    };
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(format!("{ANNOTATION} of {place:?} is no name of a header"));
    }
    let of_type = of_type.unwrap_or("null");
    if !TYPES.contains(&of_type) {
        return Err(format!("{ANNOTATION} of {place:?}: only a string, an integer or a boolean can be in a header"));
    }
    Ok(Param { token, path: path.to_vec(), is_integer: of_type == TYPES[1] })
}

/// What names of headers are made of: `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
