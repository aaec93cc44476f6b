#!/usr/bin/env python3
"""Installs the programs that the tests talk to, at pinned versions, into one folder, and prints its path.

The folder is tests/.peers, or MCP_PROXY_PEERS. What is there already is kept: a second run costs nothing.
Two runs at the same time wait for each other. If anything fails, the status is 1 and the last line says what.

Always: what is installed has the version and a hash that stand in requirements.txt, requirements-sdk2.txt and
package-lock.json. To renew the last one: change package.json, then `npm install --package-lock-only`.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S = 300


def main():
    folder = Path(os.environ.get("MCP_PROXY_PEERS") or HERE.parent / ".peers").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install(folder / "python", [HERE / "requirements.txt"], sys.version, python)
        install(folder / "python-sdk2", [HERE / "requirements-sdk2.txt"], sys.version, python)
        install(folder / "node", [HERE / "package.json", HERE / "package-lock.json"], os.uname().machine, node)
    print(folder)


def install(folder, pins, machine, steps):
    """Fills `folder` as `pins` says, unless its stamp tells that this was done; the stamp is written last."""
    stamp = folder / "stamp"
    pinned = "\n".join(file.read_text() for file in pins)
    wanted = hashlib.sha256(f"{folder}\n{machine}\n{pinned}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {pins[0].name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    steps(folder, *pins)
    stamp.write_text(wanted)


def python(folder, pins):
    run(sys.executable, "-m", "venv", folder)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run(*pip, "install", "--quiet", "--require-hashes", "--requirement", pins)
    run(*pip, "check")


def node(folder, wanted, lock):
    """The Inspector and the conformance suite need a newer Node.js than many machines have: one is installed too.

    It is the package of this machine among the optional ones. Where its hash is wrong npm installs nothing and does not
    fail; and an old npm removes the link again, with those of the packages for other machines.
    """
    for file in (wanted, lock):
        shutil.copy(file, folder)
    # Not `npm ci`: it wants a row even for what is for other systems, may be missing, and some registries do not have.
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    run("npm", "install", "--prefix", folder, *quiet, cwd=folder)
    link = folder / "node_modules" / ".bin" / "node"
    link.unlink(missing_ok=True)
    for program in folder.glob("node_modules/node-linux-*/bin/node"):
        link.symlink_to(program)
    run(link, "--version")


def run(*command, cwd=None):
    try:
        subprocess.run(command, check=True, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=LIMIT_S)
    except OSError as error:
        sys.exit(f"cannot install the test peers: cannot run '{command[0]}': {error.strerror}")
    except subprocess.TimeoutExpired:
        sys.exit(f"cannot install the test peers: '{command[0]}' took more than {LIMIT_S} s")
    except subprocess.CalledProcessError as error:
        words = " ".join(str(word) for word in command)
        sys.exit(f"cannot install the test peers: '{words}' ended with status {error.returncode}")


if __name__ == "__main__":
    main()
