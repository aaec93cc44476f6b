//! Users and groups by name, from `/etc/passwd` and `/etc/group`. A static binary has nothing else that knows them.

use crate::log;

/// The numbers of a user and a group; `None` leaves it as it is.
pub type Ids = (Option<u32>, Option<u32>);

/// The numbers that `USER`, `USER:GROUP` or `:GROUP` means, with the text of both files.
///
/// # Errors
/// There is no such user or group, or the text is none.
pub fn ids(text: &str, users: &str, groups: &str) -> Result<Ids, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() && group.is_none_or(str::is_empty) {
        return Err("the name of the user is empty".to_owned());
    }
    let user = if user.is_empty() { None } else { Some(number(user, users, "user", "/etc/passwd")?) };
    let group = match group {
        None => None,
        Some(group) => Some(number(group, groups, "group", "/etc/group")?),
    };
    Ok((user, group))
}

fn number(name: &str, entries: &str, what: &str, file: &str) -> Result<u32, String> {
    // The last number means "as it is" to the kernel.
    if let Some(number) = name.parse().ok().filter(|number| *number != u32::MAX) {
        return Ok(number);
    }
    let found = entries.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| format!("there is no {what} '{}' in {file}", log::shortened(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:34::/:\nodd:x:many:1::/:\n";
        let groups = "root:x:0:\nweb:x:77:www,root\n";
        let none = |what: &str| Err(format!("there is no {what}"));
        for (text, wanted) in [
            ("www", Ok((Some(33), None))),
            ("www:web", Ok((Some(33), Some(77)))),
            (":web", Ok((None, Some(77)))),
            ("1000", Ok((Some(1000), None))),
            ("1000:1001", Ok((Some(1000), Some(1001)))),
            ("root:77", Ok((Some(0), Some(77)))),
            ("web", none("user 'web' in /etc/passwd")),
            ("www:www", none("group 'www' in /etc/group")),
            ("www:", none("group '' in /etc/group")),
            ("odd", none("user 'odd' in /etc/passwd")),
            ("broken", none("user 'broken' in /etc/passwd")),
            ("4294967295", none("user '4294967295' in /etc/passwd")),
            ("-1", none("user '-1' in /etc/passwd")),
            ("", Err("the name of the user is empty".to_owned())),
            (":", Err("the name of the user is empty".to_owned())),
        ] {
            assert_eq!(ids(text, users, groups), wanted, "{text}");
        }
    }
}
