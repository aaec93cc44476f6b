"""The crates that Cargo.lock and `cargo metadata` name, and what must hold of them whatever network there is.

Nothing here needs anything but these two; each check gives the problems that it finds, as text.
"""

import re
from pathlib import Path

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


class Dependencies:
    """`lock` is Cargo.lock, `metadata` is what `cargo metadata --filter-platform` says, both as they were parsed."""

    def __init__(self, lock, metadata):
        self.locked = lock.get("package", [])
        self.unused_patches = lock.get("patch", {}).get("unused", [])
        self.packages = {package["id"]: package for package in metadata["packages"]}
        self.nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        self.root = metadata["resolve"]["root"]
        self.linked = self._reached([self.root], is_linked=True)
        self.built = self._reached(self._beginnings_of_build(), is_linked=False) - self.linked
        self.foreign = [package for id, package in self.packages.items() if id != self.root]

    def _reached(self, todo, is_linked):
        """What is reached from these by normal edges, and below code that runs while building by build edges."""
        found = set()
        while todo:
            id = todo.pop()
            if id in found or (is_linked and is_macro(self.packages[id])):
                continue
            found.add(id)
            wanted = (None,) if is_linked else (None, "build")
            todo += [edge["pkg"] for edge in self.edges(id, wanted)]
        return found

    def _beginnings_of_build(self):
        used = [edge["pkg"] for id in self.linked for edge in self.edges(id, ("build",))]
        macros = [edge["pkg"] for id in self.linked for edge in self.edges(id, (None,))]
        return used + [id for id in macros if is_macro(self.packages[id])]

    def edges(self, id, kinds):
        deps = self.nodes[id]["deps"]
        return [dep for dep in deps if any(kind["kind"] in kinds for kind in dep["dep_kinds"])]

    def checksum(self, package):
        for locked in self.locked:
            if (locked["name"], locked["version"]) == (package["name"], package["version"]):
                return locked.get("checksum")
        return None


def is_macro(package):
    return has_target(package, "proc-macro")


def has_target(package, kind):
    return any(kind in target["kind"] for target in package["targets"])


def name(package):
    return f"{package['name']} {package['version']}"


def check_sources(dependencies):
    ours = dependencies.packages[dependencies.root]["name"]
    for package in dependencies.locked:
        source, checksum = package.get("source"), package.get("checksum", "")
        if source is None and package["name"] == ours:
            continue
        if source != REGISTRY:
            yield f"{name(package)} comes from {source or 'a folder'}, not from crates.io"
        elif not re.fullmatch("[0-9a-f]{64}", checksum):
            yield f"{name(package)} has no checksum in Cargo.lock"
    for package in dependencies.unused_patches:
        yield f"Cargo.toml has a patch for {name(package)}"
    for package in dependencies.foreign:
        if (package["name"], package["version"]) not in {(p["name"], p["version"]) for p in dependencies.locked}:
            yield f"{name(package)} is used and does not stand in Cargo.lock"


def check_duplicates(dependencies, accepted):
    versions = {}
    for package in dependencies.locked:
        versions.setdefault(package["name"], []).append(package["version"])
    twice = {crate: found for crate, found in versions.items() if len(found) > 1}
    for crate, found in twice.items():
        if crate not in accepted:
            yield f"{crate} is there in {len(found)} versions: {', '.join(found)}"
    yield from unneeded("duplicates", accepted, twice)


def check_building(dependencies, rules):
    crates = dependencies.foreign
    tables = {
        "build-scripts": {p["name"] for p in crates if has_target(p, "custom-build")},
        "macros": {p["name"] for p in crates if is_macro(p)},
        "for-building": {dependencies.packages[id]["name"] for id in dependencies.built},
    }
    for table, found in tables.items():
        for crate in sorted(found - set(rules[table])):
            yield f"{crate} runs while we are built, and [{table}] does not say why"
        yield from unneeded(table, rules[table], found)


def check_licences(dependencies, allowed):
    used = set()
    for package in dependencies.foreign:
        expression = package.get("license")
        if not expression:
            yield f"{name(package)} names no licence"
            continue
        try:
            taken = permitted(expression, allowed)
        except ValueError as wrong:
            yield f"{name(package)}: {wrong}"
            continue
        if taken is None:
            yield f"{name(package)} has the licence {expression}"
        used |= taken or set()
    yield from unneeded("licences", allowed, used)


def permitted(expression, allowed):
    """The allowed licences that satisfy an SPDX expression; `None` if there are not enough of them."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    taken, rest = any_of(words, allowed)
    if rest:
        raise ValueError(f"the licence {expression} cannot be understood")
    return taken


def any_of(words, allowed):
    taken, words = all_of(words, allowed)
    while words[:1] == ["OR"]:
        other, words = all_of(words[1:], allowed)
        taken = other if taken is None else taken if other is None else taken | other
    return taken, words


def all_of(words, allowed):
    taken, words = one_of(words, allowed)
    while words[:1] == ["AND"]:
        other, words = one_of(words[1:], allowed)
        taken = None if taken is None or other is None else taken | other
    return taken, words


def one_of(words, allowed):
    if words[:1] == ["("]:
        taken, words = any_of(words[1:], allowed)
        if words[:1] != [")"]:
            raise ValueError("a licence with a parenthesis that is not closed")
        return taken, words[1:]
    if not words or words[0] in ("OR", "AND", "WITH", ")"):
        raise ValueError("a licence that cannot be understood")
    licence, words = words[0], words[1:]
    if words[:1] == ["WITH"]:
        licence, words = " ".join([licence, *words[:2]]), words[2:]
    return ({licence} if licence in allowed else None), words


def unneeded(table, accepted, found):
    for entry in accepted:
        if entry not in found:
            yield f"[{table}] of rules.toml accepts {entry}, which nothing needs"


def count_unsafe(package):
    """How many lines of its sources have the word, comments aside: a hint where to look, not a measure."""
    folder = Path(package["manifest_path"]).parent / "src"
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in sorted(folder.rglob("*.rs")))
    lines = (line.split("//")[0] for text in texts for line in text.splitlines())
    return sum(bool(re.search(r"\bunsafe\b", line)) for line in lines)
