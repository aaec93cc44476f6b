#!/usr/bin/env python3
"""Writes the bill of materials of a built binary to stdout, as CycloneDX 1.6 in JSON: `bill.py BINARY TRIPLE RUSTC`.

The same binary gives the same bytes: there is no time in it, unless SOURCE_DATE_EPOCH gives one, and its serial number
is made of what it says. A crate that only runs while building has the scope "excluded"; those of the tests are not in it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

from dependencies import Dependencies

ROOT = Path(__file__).resolve().parent.parent.parent


def main(binary, triple, rustc):
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--offline", "--format-version=1"]
    metadata = subprocess.run([*command, f"--filter-platform={triple}"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = Dependencies(tomllib.loads((ROOT / "Cargo.lock").read_text()), json.loads(metadata.stdout))
    compiler = subprocess.run([rustc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    digest = hashlib.sha256(Path(binary).read_bytes()).hexdigest()
    bill = write(found, triple, compiler, digest)
    json.dump(bill, sys.stdout, indent=2)
    print()


def write(found, triple, compiler, digest):
    listed = sorted((found.linked | found.built) - {found.root}, key=lambda id: reference(found.packages[id]))
    system = foundations(triple, compiler)
    ours = found.packages[found.root]
    body = {
        "metadata": {
            **timestamp(),
            "component": {"type": "application", **described(ours), "hashes": sha256(digest)},
            "properties": [{"name": "mcp-proxy:target", "value": triple}, {"name": "mcp-proxy:rustc", "value": compiler}],
        },
        "components": [component(found, id) for id in listed] + system,
        "dependencies": [below(found, id) for id in [found.root, *listed]] +
                        [{"ref": part["bom-ref"], "dependsOn": []} for part in system],
    }
    body["dependencies"][0]["dependsOn"] += [part["bom-ref"] for part in system]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return {**head, **body}


def timestamp():
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if not seconds:
        return {}
    return {"timestamp": datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def described(package):
    licence = package["license"].replace("/", " OR ")
    place = package.get("repository")
    return {
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "licenses": [{"expression": licence}],
        "purl": reference(package),
        **({"externalReferences": [{"type": "vcs", "url": place}]} if place else {}),
    }


def sha256(digest):
    return [{"alg": "SHA-256", "content": digest}]


def component(found, id):
    package = found.packages[id]
    scope = "required" if id in found.linked else "excluded"
    return {"type": "library", **described(package), "scope": scope, "hashes": sha256(found.checksum(package))}


def foundations(triple, compiler):
    """What is linked and is no crate of Cargo.lock."""
    version = re.match(r"rustc (\S+)", compiler)[1]
    parts = [{"type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": version, "scope": "required",
              "description": f"The standard library of Rust for {triple}, with the unwinder that it links"}]
    if "musl" in triple:
        parts.append({"type": "library", "bom-ref": "musl", "name": "musl", "scope": "required",
                      "description": "The C library that the Rust target brings, or the distribution"})
    return parts


def below(found, id):
    edges = found.edges(id, (None, "build"))
    depends = {reference(found.packages[edge["pkg"]]) for edge in edges if edge["pkg"] in found.linked | found.built}
    return {"ref": reference(found.packages[id]), "dependsOn": sorted(depends)}


if __name__ == "__main__":
    main(*sys.argv[1:])
