"""The RustSec database of advisories (a folder), and which of them hit a version.

Versions are ordered as semver says, those before a release too: `>= 1.2` patches 1.3.0-beta as well. An advisory hits
every version that is neither patched nor unaffected; one that was withdrawn hits none.
"""

import re
from pathlib import Path

VERSION = re.compile(r"(\d+)(?:\.(\d+|\*|x))?(?:\.(\d+|\*|x))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class Advisory:
    def __init__(self, head, title, collection):
        advisory, versions = head["advisory"], head.get("versions", {})
        self.id, self.package, self.title = advisory["id"], advisory["package"], title
        self.kind = advisory.get("informational") or ", ".join(advisory.get("categories", [])) or "vulnerability"
        self.date, self.is_withdrawn = str(advisory["date"]), "withdrawn" in advisory
        self.patched, self.unaffected = versions.get("patched", []), versions.get("unaffected", [])
        self.collection = collection

    def hits(self, version):
        spared = self.patched + self.unaffected
        return not self.is_withdrawn and not any(matches(version, wanted) for wanted in spared)

    def __str__(self):
        cure = " or ".join(self.patched)
        return f"{self.title} ({self.kind}; {'patched in ' + cure if cure else 'no patch'})"


def read(folder, parse):
    """All advisories, by (collection, package): the collection is `crates` or `rust`."""
    found = {}
    for collection in ("crates", "rust"):
        for file in sorted((Path(folder) / collection).glob("*/*.md")):
            advisory = read_one(file, collection, parse)
            found.setdefault((collection, advisory.package), []).append(advisory)
    return found


def read_one(file, collection, parse):
    text = file.read_text(encoding="utf-8")
    head = re.match(r"\s*```toml\n(.*?)^```\s*?$(.*)", text, re.DOTALL | re.MULTILINE)
    if not head:
        raise ValueError(f"{file} does not begin with its data")
    title = re.search(r"^# +(.+)$", head[2], re.MULTILINE)
    try:
        return Advisory(parse(head[1]), title[1].strip() if title else "no title", collection)
    except (KeyError, ValueError) as wrong:
        raise ValueError(f"{file}: {wrong!r}") from wrong


def matches(version, requirement):
    """Whether a version is in a range such as `>= 1.2, < 2`, `^0.6.3`, `~1.2`, `= 1.0.0`, `1.2.*` or `*`."""
    return all(matches_one(key(version), part.strip()) for part in requirement.split(","))


def matches_one(version, part):
    operator, text = re.fullmatch(r"(>=|<=|>|<|=|\^|~)?\s*(.*)", part, re.DOTALL).groups()
    if text in ("*", "") and not operator:
        return True
    found = VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"a range that cannot be understood: {part!r}")
    numbers = [int(number) for number in found.groups()[:3] if number and number.isdigit()]
    if not operator:
        operator = "^" if len(numbers) == 3 or not re.search(r"[*x]", text) else "="
    lowest = key(text)
    if operator == "<":
        return version < lowest
    if operator == ">=":
        return version >= lowest
    after = key(".".join(map(str, following(operator, numbers))))
    exact = len(numbers) == 3
    if operator == ">":
        return version > lowest if exact else version >= after
    if operator == "<=":
        return version <= lowest if exact else version < after
    if operator == "=" and exact:
        return version == lowest
    return lowest <= version < before_any(after)


def following(operator, numbers):
    """The first version behind those that `numbers`, which may be fewer than three, stand for."""
    if operator == "^":
        kept = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    elif operator == "~":
        kept = min(1, len(numbers) - 1)
    else:
        kept = len(numbers) - 1
    return [*numbers[:kept], numbers[kept] + 1, 0, 0][:3]


def key(text):
    """Something that is ordered as versions are; what is left out of a range is 0."""
    found = VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"a version that cannot be understood: {text!r}")
    *numbers, before = found.groups()
    numbers = tuple(int(number) if number and number.isdigit() else 0 for number in numbers)
    if before is None:
        return (numbers, (1,))
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in before.split(".")]
    return (numbers, (0, tuple(parts)))


def before_any(version):
    """Stands before every version with these numbers: `^1.2` does not take 2.0.0-beta."""
    return (version[0], (-1,))
