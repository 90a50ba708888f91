"""`rosetta new`: the folder of a framework, with a leg in which four functions are still to be filled in."""

import re
from pathlib import Path

import jinja2
import numpy as np

from rosetta import environments, initial
from rosetta.config import ROOT, ConfigError
from rosetta.tasks import TASKS

HEADINGS = {"cnn": "the CNN on CIFAR-10", "rnn": "the GRU on IMDB"}


def create(name: str, task: str, environment: str) -> list[Path]:
    """Writes python/frameworks/NAME and gives its files. Raises ConfigError for a name, task or environment that will not do.

    Args:
        name: lower-case letters, digits and hyphens.
        task: cnn or rnn; further tasks are further files.
        environment: the set of packages that it runs in.
    """
    folder = ROOT / "python" / "frameworks" / name
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ConfigError(f"{name!r} is no name for a framework; use lower-case letters, digits and hyphens")
    if folder.exists():
        raise ConfigError(f"{folder.relative_to(ROOT)} is there already; choose another name, or remove the folder")
    if task not in HEADINGS:
        raise ConfigError(f"there is no template of {task!r}; choose from {', '.join(HEADINGS)}")
    names = {path.stem for path in environments.REQUIREMENTS.glob("*.lock") if "-" not in path.stem}
    # Not the harness's own and the tests' browser, nor those that bring another language.
    known = sorted(name for name in names - {"harness", "browser"} if not environments.needs(name).toolchain)
    if environment not in known:
        raise ConfigError(f"there is no environment {environment!r}; choose from {', '.join(known)}")
    rng = np.random.default_rng(0)
    view = {
        "name": name,
        "title": name,
        "task": task,
        "environment": environment,
        "heading": HEADINGS[task],
        "classes": TASKS[task].classes,
        "shapes": {
            key: list(array.shape) for key, array in {"cnn": initial.cnn, "rnn": initial.rnn}[task](rng).items()
        },
    }
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    folder.mkdir()
    files = {"framework.toml": "framework.toml.j2", f"{task}.py": "leg.py.j2"}
    for file, template in files.items():
        (folder / file).write_text(templates.get_template(template).render(view))
    return [folder / file for file in files]
