"""The stone: any two legs of a task side by side, from the legs' own files. `context` is all that the pages show, `beside` leads there."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from .. import frameworks
from ..config import ROOT, ConfigError
from ..frameworks import LANGUAGES, Framework, Leg
from ..tasks import TASKS
from . import results

PARTS = ("Setup", "Build", "Load", "Place", "Train", "Predict", "Weights", "Synchronize")
TRAINING = ("Load", "Train", "Weights")
"""Parts that a forward-only task has no need of."""

HEADING = re.compile(rf"# (?:(?P<alone>[A-Z][a-z]+)(?: -+)?|(?P<titled>{'|'.join(PARTS)}): .*)\s*")
"""A comment at the margin that is one word, with or without dashes, or a part's name with a remark behind it."""

ROWS = {
    "cnn": ("pictures", "convolution", "padding", "flatten", "dense", "dropout", "sgd"),
    "rnn": ("embedding", "gru", "biases", "dense", "adam"),
    "resnet50": ("pictures", "convolution", "padding", "batch_norm"),
}
"""The rows of a framework's [mapping] that matter for a task, in the order of the network."""

NAMES = {row: row for rows in ROWS.values() for row in rows}
NAMES |= {"gru": "GRU", "sgd": "SGD", "adam": "Adam", "batch_norm": "batch norm"}
FIRST = ("python/pytorch", "julia/flux")
"""The pair that is shown when nothing else was asked for."""

TONES = {
    "": (Name.Builtin.Pseudo,),
    "c": (Comment,),
    "k": (Keyword, Operator.Word, Name.Decorator),
    "s": (String,),
    "m": (Number,),
    "f": (Name.Function, Name.Class, Name.Namespace),
    "b": (Name.Builtin, Name.Constant, Name.Exception),
}
"""The classes of code that have a colour in stone.css, and the lexers' tokens of each; all else is ink."""


@dataclass(frozen=True)
class Cell:
    """A part of a leg: its code as HTML, or, where the file has none, the reason in a few words."""

    part: str
    code: Markup
    absent: str = ""


@dataclass(frozen=True)
class Source:
    """A file on the page: with cells if it is a leg's, as one piece of code if legs share it.

    Attributes:
        legs: those that run it; several frameworks may share their files.
    """

    path: str
    language: str
    legs: tuple[Leg, ...] = ()
    cells: tuple[Cell, ...] = ()
    code: Markup = Markup()


def parts_of(text: str, where: str) -> dict[str, str]:
    """A leg's file, parted at its headings: {part: text}, in the order of the file. Put together they are the file again.

    A heading is a comment at the margin: `# Build`, `# Build ------`, or `# Build: a remark`. It belongs to its part. What stands before
    the first one (docstring, imports) belongs to Setup. Any other comment is part of the code around it.

    Args:
        where: the file's name, for messages.

    Raises:
        ConfigError: a heading of one word that names no part, or a part that comes twice or out of order. Two files can be laid
            side by side only if theirs are the same, so this is an error and not shown somehow.
    """
    found, last = {"Setup": ""}, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        heading = HEADING.fullmatch(line)
        if heading:
            part = heading["alone"] or heading["titled"]
            if part not in PARTS:
                raise ConfigError(f"{where}:{number}: `# {part}` is no part of a leg; the parts are {', '.join(PARTS)}")
            if last and PARTS.index(part) <= PARTS.index(last):
                raise ConfigError(f"{where}:{number}: {part} stands behind {last}; the order is {', '.join(PARTS)}")
            last = part
        found[last or "Setup"] = found.get(last or "Setup", "") + line
    return found


@functools.cache
def highlighted(text: str, language: str) -> Markup:
    """Code as HTML, each line in an element that knows its indentation, so that the rest of a long line can hang under it."""
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    lines = [[]]
    for token, value in lexer.get_tokens(text.strip("\n")):
        first, *others = value.split("\n")
        lines[-1].append((token, first))
        lines.extend([(token, part)] for part in others)
    return Markup("").join(map(line_of, lines))


def line_of(tokens: list) -> Markup:
    line = "".join(value for _, value in tokens)
    indent = len(line) - len(line.lstrip())
    mark = Markup(' style="--in:{}"').format(indent) if indent and line.strip() else ""
    if line.startswith("# ") and line.endswith("----"):
        mark = Markup(' class="rule"')
    return Markup("<span{}>{}\n</span>").format(mark, Markup("").join(toned(*token) for token in tokens))


def toned(token, value: str) -> Markup | str:
    tone = next((tone for tone, kinds in TONES.items() if any(token in kind for kind in kinds)), "")
    return Markup('<i class="{}">{}</i>').format(tone, value) if tone and value.strip() else value


def why_absent(part: str, leg: Leg) -> str:
    """Why a leg's file lacks a part: `forward only`, `in setup.py` where a shared file defines the verb, or that nothing says why."""
    if part in TRAINING and not leg.task.trained:
        return "forward only"
    definition = re.compile(rf"^(?:def |function )?{part.lower()}(?:\(| *<- )", re.MULTILINE)
    for path in leg.shared_files:
        if definition.search(path.read_text()):
            return f"in {path.name}"
    return "not in this file"


def living() -> list[Leg]:
    return [leg for leg in frameworks.discover() if not leg.framework.retired]


def key(framework: Framework) -> str:
    return f"{framework.language}/{framework.name}"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def leg_source(legs: list[Leg]) -> Source:
    """The source of legs that run the same file."""
    leg = legs[0]
    language, path = leg.framework.language, relative(leg.file)
    parts = parts_of(leg.file.read_text(), path)
    cells = [
        Cell(part, highlighted(parts[part], language)) if part in parts else Cell(part, Markup(), why_absent(part, leg))
        for part in PARTS
    ]
    return Source(path, language, tuple(legs), tuple(cells))


def shared_source(path: Path) -> Source:
    language = {suffix: language for language, suffix in LANGUAGES.items()}[path.suffix]
    return Source(relative(path), language, code=highlighted(path.read_text(), language))


def context() -> dict:
    """Everything that the template shows. Each file is in it once."""
    legs = living()
    by_file = {}
    for leg in legs:
        by_file.setdefault((leg.task.name, leg.file), []).append(leg)
    shared = dict.fromkeys(path for leg in legs for path in leg.shared_files if path.stem not in TASKS)
    every = {key(leg.framework): leg.framework for leg in frameworks.discover()}
    return {
        "tasks": {name: [leg_source(group) for (task, _), group in by_file.items() if task == name] for name in TASKS},
        "shared": [shared_source(path) for path in shared],
        "frameworks": {name: framework for name, framework in every.items() if not framework.retired},
        "retired": {name: framework for name, framework in every.items() if framework.retired},
        "names": NAMES,
        "index": index(legs),
    }


def beside(name: str, task: str) -> tuple[str, str] | None:
    """For a leg (`python/numpy`, `cnn`) the address on the stone that lays it beside the best known other one, and that one's title."""
    legs = {key(leg.framework): leg for leg in living() if leg.task.name == task}
    other = next((other for other in FIRST if other in legs and other != name), None)
    if name not in legs or other is None:
        return None
    return f"{task}/{name}/{other}", legs[other].framework.title


def index(legs: list[Leg]) -> dict:
    """What the page's script looks up: which legs there are, and which files belong to each."""
    tasks = {}
    for name, task in TASKS.items():
        of_task = {
            key(leg.framework): {"file": relative(leg.file), "shared": [relative(path) for path in leg.shared_files]}
            for leg in legs
            if leg.task is task
        }
        tasks[name] = {"title": task.title, "rows": ROWS[name], "legs": of_task}
    titles = {
        key(leg.framework): {
            "title": leg.framework.title,
            "language": results.LANGUAGES[leg.framework.language],
        }
        for leg in legs
    }
    return {"parts": PARTS, "first": FIRST, "names": NAMES, "tasks": tasks, "frameworks": titles}
