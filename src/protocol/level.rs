//! How severe a log message is (`server/utilities/logging`).

/// A level; the more verbose one is the smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Level(usize);

const NAMES: [&str; 8] = [
    r#""debug""#,
    r#""info""#,
    r#""notice""#,
    r#""warning""#,
    r#""error""#,
    r#""critical""#,
    r#""alert""#,
    r#""emergency""#,
];

impl Level {
    /// The level that JSON text names.
    pub fn from_json(text: &str) -> Option<Self> {
        let name = serde_json::from_str::<serde_json::Value>(text).ok().filter(serde_json::Value::is_string)?;
        let name = name.to_string();
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// Its name as JSON text.
    #[must_use]
    pub fn as_json(self) -> &'static str {
        NAMES[self.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_specification() {
        for (text, wanted) in [(r#""debug""#, Some(0)), (r#""\u0065rror""#, Some(4)), ("debug", None), ("0", None)] {
            assert_eq!(Level::from_json(text), wanted.map(Level), "{text}");
        }
        for (at, name) in NAMES.iter().enumerate() {
            assert_eq!(Level::from_json(name).map(Level::as_json), Some(NAMES[at]));
        }
    }
}
