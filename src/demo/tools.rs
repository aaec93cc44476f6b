//! The tools of the demo server: a table of what each is called, takes and does. None of them changes anything.

use crate::log;
use crate::time;
use serde_json::{Number, Value, json};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a call comes to.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// This answer, at once.
    Text(String),
    /// The tool was called and could not do it, for this reason.
    Failed(String),
    /// All numbers from 1 on, with a pause between them.
    Count {
        /// The last number.
        to: u32,
        /// How long each pause is.
        pause: Duration,
    },
}

/// Why a tool is not called.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// There is none of this name.
    UnknownTool,
    /// This is wrong with its arguments.
    Arguments(String),
}

/// One tool.
struct Tool {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    /// What it takes: the properties of its schema, and those of them that must be there.
    takes: fn() -> (Value, &'static [&'static str]),
    call: fn(&mut Arguments, Duration) -> Result<Outcome, String>,
}

const MOST_NUMBERS: u32 = 1000;
const LONGEST_PAUSE_MS: u32 = 1000;
const USUAL_PAUSE_MS: u32 = 100;

const TOOLS: [Tool; 4] = [
    Tool {
        name: "echo",
        title: "Echo",
        description: "Gives back the text that it is given.",
        takes: || (json!({ "text": { "type": "string", "description": "What to give back" } }), &["text"]),
        call: |arguments, _| Ok(Outcome::Text(arguments.text("text")?)),
    },
    Tool {
        name: "add",
        title: "Add",
        description: "Adds two numbers.",
        takes: || (json!({ "a": { "type": "number" }, "b": { "type": "number" } }), &["a", "b"]),
        call: |arguments, _| Ok(sum(&arguments.number("a")?, &arguments.number("b")?)),
    },
    Tool {
        name: "count",
        title: "Count",
        description: "Counts from 1, with a pause after each number, and reports progress. It can be cancelled.",
        takes: || {
            let to = json!({
                "type": "integer", "minimum": 1, "maximum": MOST_NUMBERS, "description": "The last number",
            });
            let pause = json!({
                "type": "integer", "minimum": 0, "maximum": LONGEST_PAUSE_MS, "default": USUAL_PAUSE_MS,
                "description": "The pause between two numbers, in milliseconds",
            });
            (json!({ "to": to, "delay_ms": pause }), &["to"])
        },
        call: |arguments, _| {
            let to = arguments.integer("to", None, 1..=MOST_NUMBERS)?;
            let pause_ms = arguments.integer("delay_ms", Some(USUAL_PAUSE_MS), 0..=LONGEST_PAUSE_MS)?;
            Ok(Outcome::Count { to, pause: Duration::from_millis(pause_ms.into()) })
        },
    },
    Tool {
        name: "time",
        title: "Time",
        description: "Tells the current time in UTC (RFC 3339).",
        takes: || (json!({}), &[]),
        call: |_, since_epoch| Ok(Outcome::Text(time::rfc3339(since_epoch))),
    },
];

/// The tools as `tools/list` shows them. MCP `server/tools`, Data Types.
pub fn list() -> Vec<Value> {
    let shown = TOOLS.iter().map(|tool| {
        let (properties, required) = (tool.takes)();
        json!({
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        })
    });
    shown.collect()
}

/// Calls the tool `name`. The time comes in as what has passed since 1970.
///
/// # Errors
/// There is none of this name, or the arguments are not what its schema says.
pub fn call(name: &str, arguments: BTreeMap<String, Value>, since_epoch: Duration) -> Result<Outcome, Refused> {
    let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or(Refused::UnknownTool)?;
    let mut arguments = Arguments(arguments);
    let outcome = (tool.call)(&mut arguments, since_epoch).map_err(Refused::Arguments)?;
    match arguments.0.keys().next() {
        Some(other) => {
            let other = log::shortened(other.as_bytes());
            Err(Refused::Arguments(format!("'{name}' takes no argument '{other}'")))
        }
        None => Ok(outcome),
    }
}

/// The arguments that were not taken yet.
struct Arguments(BTreeMap<String, Value>);

impl Arguments {
    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("argument '{name}' must be there and a string")),
        }
    }

    fn number(&mut self, name: &str) -> Result<Number, String> {
        match self.0.remove(name) {
            Some(Value::Number(number)) => Ok(number),
            _ => Err(format!("argument '{name}' must be there and a number")),
        }
    }

    fn integer(&mut self, name: &str, usual: Option<u32>, range: RangeInclusive<u32>) -> Result<u32, String> {
        let given = self.0.remove(name);
        let number = match &given {
            Some(Value::Number(number)) => range.clone().find(|integer| number.as_f64() == Some(f64::from(*integer))),
            Some(_) => None,
            None => usual,
        };
        let (least, most) = range.into_inner();
        number.ok_or_else(|| format!("argument '{name}' must be an integer from {least} to {most}"))
    }
}

/// Integers are added exactly, whatever their size.
fn sum(a: &Number, b: &Number) -> Outcome {
    let integer = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return Outcome::Text((a + b).to_string());
    }
    match a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b)) {
        Some(sum) => Outcome::Text(sum.to_string()),
        None => Outcome::Failed("the sum is too large for a number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, arguments: &Value, wanted: Result<Outcome, &str>) {
        let given = serde_json::from_value(arguments.clone()).unwrap();
        let wanted = wanted.map_err(|reason| Refused::Arguments(reason.into()));
        assert_eq!(call(name, given, Duration::ZERO), wanted, "{name} {arguments}");
    }

    fn says(name: &str, arguments: &Value, text: &str) {
        check(name, arguments, Ok(Outcome::Text(text.into())));
    }

    #[test]
    fn what_each_tool_says() {
        says("echo", &json!({ "text": "" }), "");
        says("echo", &json!({ "text": "é\n\u{0}😀" }), "é\n\u{0}😀");
        says("add", &json!({ "a": 2, "b": -3 }), "-1");
        says("add", &json!({ "a": 1.5, "b": 2 }), "3.5");
        says("add", &json!({ "a": u64::MAX, "b": u64::MAX }), "36893488147419103230");
        says("add", &json!({ "a": i64::MIN, "b": -1 }), "-9223372036854775809");
        says("add", &json!({ "a": 0.1, "b": 0.2 }), "0.30000000000000004");
        let too_large = Outcome::Failed("the sum is too large for a number".into());
        check("add", &json!({ "a": 1.7e308, "b": 1.7e308 }), Ok(too_large));
        says("time", &json!({}), "1970-01-01T00:00:00Z");
        for (arguments, to, pause_ms) in [
            (json!({ "to": 1 }), 1, 100),
            (json!({ "to": 1000, "delay_ms": 0 }), 1000, 0),
            (json!({ "to": 2.0, "delay_ms": 1e3 }), 2, 1000),
        ] {
            check("count", &arguments, Ok(Outcome::Count { to, pause: Duration::from_millis(pause_ms) }));
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        check("echo", &json!({}), Err("argument 'text' must be there and a string"));
        check("echo", &json!({ "text": 1 }), Err("argument 'text' must be there and a string"));
        check("echo", &json!({ "text": "", "x": 1 }), Err("'echo' takes no argument 'x'"));
        check("add", &json!({ "a": 1 }), Err("argument 'b' must be there and a number"));
        check("add", &json!({ "a": "1", "b": 1 }), Err("argument 'a' must be there and a number"));
        check("time", &json!({ "zone": "UTC" }), Err("'time' takes no argument 'zone'"));
        for to in [json!(null), json!(0), json!(-1), json!(1001), json!(1.5), json!("3"), json!(1e300)] {
            check("count", &json!({ "to": to }), Err("argument 'to' must be an integer from 1 to 1000"));
        }
        check("count", &json!({}), Err("argument 'to' must be an integer from 1 to 1000"));
        let pause = "argument 'delay_ms' must be an integer from 0 to 1000";
        check("count", &json!({ "to": 1, "delay_ms": 1001 }), Err(pause));
        assert_eq!(call("Echo", BTreeMap::new(), Duration::ZERO), Err(Refused::UnknownTool));
    }

    #[test]
    fn the_schemas_fit_the_tools() {
        for tool in list() {
            let schema = &tool["inputSchema"];
            assert_eq!(schema["type"], "object", "{tool}");
            assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
            let example = |kind: &Value| if kind == "string" { json!("1") } else { json!(1) };
            let properties = schema["properties"].as_object().unwrap();
            let all: BTreeMap<_, _> = properties.iter().map(|(name, p)| (name.clone(), example(&p["type"]))).collect();
            let name = tool["name"].as_str().unwrap();
            assert!(call(name, all.clone(), Duration::ZERO).is_ok(), "{tool}");
            for argument in all.keys() {
                let mut others = all.clone();
                others.remove(argument);
                let required = schema["required"].as_array().unwrap().iter().any(|known| known == argument);
                assert_eq!(call(name, others, Duration::ZERO).is_err(), required, "{name} without {argument}");
            }
        }
    }
}
