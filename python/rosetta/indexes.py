"""Where packages come from: pip's configuration, in uv's words.

uv does not read pip's configuration; whoever has set an index or a folder of wheels for pip expects it to count here too.
Standard library only: the first set-up runs this before anything is installed.
"""

import os
import subprocess
import sys
from pathlib import Path

NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def pip_settings(python: str) -> dict[str, str]:
    """{option: value} of pip's files and variables, the strongest source last; empty where neither Python has a pip."""
    for candidate in (python, "python3"):
        command = [candidate, "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        return {}
    settings = {}
    # pip lists them by name; a variable counts more than a file.
    for line in sorted(done.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    return settings


def uv_environment(python: str = sys.executable) -> dict[str, str]:
    """This process's variables, with uv's own ones filled in from the configuration of `python`'s pip where the user set none."""
    environment = dict(os.environ)
    for option, value in pip_settings(python).items():
        if option in NAMES and value:
            separator = "," if option == "find-links" else " "
            environment.setdefault(NAMES[option], separator.join(value.split()))
    if "UV_INDEX" in environment:
        # pip looks at all indexes as equals; uv by default stops at the first that knows the name.
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    environment["VIRTUAL_ENV"] = ""
    return environment


def has_wheel(environment: dict[str, str], package: str) -> bool:
    """Whether a folder of the find-links holds a wheel of `package`."""
    folders = environment.get("UV_FIND_LINKS", "").split(",")
    return any(any(Path(folder).glob(f"{package}-*.whl")) for folder in folders if folder and Path(folder).is_dir())


if __name__ == "__main__":
    sys.exit(subprocess.run(sys.argv[1:], env=uv_environment()).returncode)
