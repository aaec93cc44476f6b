//! `${NAME}` in the file of named servers: the value of a variable, so that a secret need not stand in the file.
//!
//! | written             | means                                                            |
//! |---------------------|------------------------------------------------------------------|
//! | `${NAME}`           | the variable's value; a mistake where it is not set                |
//! | `${NAME:-text}`     | the variable's value; the text where it is not set, or empty       |
//! | `${env:NAME}`       | `${NAME}`, as some desktop clients write it                        |
//! | `$${`               | `${`                                                              |
//! | any other `$`       | itself                                                            |
//!
//! A value is taken as it is: what looks like a variable in it is none.

use super::Environment;

/// Puts the values in their places. A fault names the variable and shows no value.
pub(super) fn expand(text: &str, environment: Environment) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let Some((inside, behind)) = rest[at + 2..].split_once('}') else {
            return Err("a '${' has no '}'; '$${' stands for '${' itself".to_owned());
        };
        expanded.push_str(&value(inside, environment)?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of what stands between `${` and `}`.
fn value(inside: &str, environment: Environment) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let name = name.strip_prefix("env:").unwrap_or(name);
    if !is_name(name) {
        return Err("a '${…}' holds no name of a variable; '$${' stands for '${' itself".to_owned());
    }
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => value.into_string().map_err(|_| format!("variable '{name}' is not UTF-8")),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("variable '{name}' is not set")),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_their_places() {
        let environment = |name: &str| match name {
            "A" => Some("one".into()),
            "B_2" => Some("${A}".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        let not_set = |name: &str| Err(format!("variable '{name}' is not set"));
        let no_name = Err("a '${…}' holds no name of a variable; '$${' stands for '${' itself".to_owned());
        for (text, wanted) in [
            ("", Ok("")),
            ("plain $A {A} $ }", Ok("plain $A {A} $ }")),
            ("${A}", Ok("one")),
            ("x${A}y${A}", Ok("xoneyone")),
            ("${B_2}", Ok("${A}")),
            ("${EMPTY}", Ok("")),
            ("${A:-two}", Ok("one")),
            ("${NONE:-two}", Ok("two")),
            ("${NONE:-}", Ok("")),
            ("${NONE:-http://h:-1/}", Ok("http://h:-1/")),
            ("${EMPTY:-two}", Ok("two")),
            ("${env:A}", Ok("one")),
            ("${env:NONE:-two}", Ok("two")),
            ("$${A}", Ok("${A}")),
            ("$$${A}", Ok("$${A}")),
            ("$$A", Ok("$$A")),
        ] {
            assert_eq!(expand(text, &environment), wanted.map(str::to_owned), "{text}");
        }
        for (text, wanted) in [
            ("${NONE}", not_set("NONE")),
            ("${env:NONE}", not_set("NONE")),
            ("${A", Err("a '${' has no '}'; '$${' stands for '${' itself".to_owned())),
            ("${}", no_name.clone()),
            ("${input:token}", no_name.clone()),
            ("${1A}", no_name.clone()),
            ("${A-b}", no_name),
        ] {
            assert_eq!(expand(text, &environment), wanted, "{text}");
        }
    }
}
