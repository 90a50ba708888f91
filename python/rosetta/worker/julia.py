"""Julia from Python: in this process through juliacall, or as a `julia` process of its own behind a pipe.

Both bridges send the same requests, one line of tab-separated fields each, to `julia/rosetta.jl`; they differ only in
how a line and an array travel. docs/julia.md describes the protocol. Written for PythonCall and juliacall 0.9.34.
"""

import atexit
import contextlib
import os
import re
import subprocess
import time
import weakref
from collections import OrderedDict

import numpy as np

from .job import Unavailable

MISSING = re.compile(r"ArgumentError: (Package \w+ not found in current path)")
"""What Julia says of a package that its project does not have."""

TYPES = ("float32", "float64", "int64", "uint8")

SECONDS_TO_END = 5
"""How long a julia process may take to end by itself once its standard input is closed."""


class JuliaError(RuntimeError):
    """An exception in Julia; the message is `Type: message` in one line, the backtrace is on standard error."""


class Handle:
    """A model or a placed array that lives in Julia, until Python drops this."""

    def __init__(self, number):
        self.number = number
        self.owned = []  # arrays whose memory Julia may read for as long as this lives


class Leg:
    """The verbs of the contract, sent over a channel. See docs/contract.md."""

    def __init__(self, channel, job):
        self._channel = channel
        self._count = 0
        self._dropped = []
        try:
            self._ask("open", os.path.abspath(job.file), job.task.device, job.task.precision, *job.libraries)
        except JuliaError as error:
            missing = MISSING.match(str(error))
            if missing:
                raise Unavailable("%s; `rosetta doctor` says what mends it" % missing.group(1)) from None
            raise

    def build(self, task, weights):
        settings = [item for name in sorted(vars(task)) for item in (name,) + setting(getattr(task, name))]
        model = self._handle()
        model.owned.append({name: readable(array) for name, array in weights.items()})
        self._ask("build", model.number, len(vars(task)), *settings, arrays=model.owned[-1])
        return model

    def load(self, model, weights):
        model.owned.append({name: readable(array) for name, array in weights.items()})
        self._ask("load", model.number, arrays=model.owned[-1])
        # Not before: of a load that failed, Julia may have some of the old arrays and some of the new.
        del model.owned[:-1]

    def place(self, model, array):
        placed = self._handle()
        placed.owned.append(readable(array))
        self._ask("place", model.number, placed.number, array=placed.owned[-1])
        return placed

    def train(self, model, x, y, order):
        return self._ask("train", model.number, x.number, y.number, array=readable(order))["losses"]

    def predict(self, model, x):
        return self._ask("predict", model.number, x.number)["scores"]

    def weights(self, model):
        return self._ask("weights", model.number)

    def synchronize(self, model):
        self._ask("synchronize", model.number)

    def collect(self):
        """Frees memory that Julia no longer uses: (seconds that this took, seconds of collections since the last call)."""
        return tuple(self._ask("collect")["seconds"].tolist())

    def versions(self):
        """{"julia": version and level of optimization, "blas": library, version, kernels, threads}."""
        return {name: value.tobytes().decode() for name, value in self._ask("versions").items()}

    def processor_seconds(self):
        """Processor seconds of this process and of Julia, where that is a process of its own."""
        return time.process_time() + self._channel.processor_seconds()

    def close(self):
        """Ends Julia where it is a process of its own."""
        self._channel.close()

    def _handle(self):
        self._count += 1
        handle = Handle(self._count)
        # Finalizers run at any time, so they only make a note for the next request.
        weakref.finalize(handle, self._dropped.append, handle.number).atexit = False
        return handle

    def _ask(self, verb, *fields, array=None, arrays=None):
        if self._dropped:
            dropped, self._dropped[:] = list(self._dropped), []
            self._channel.ask(["forget"] + dropped, [])
        fields, sent = [verb] + list(fields), []
        if array is not None:
            fields.append(None)
            sent.append(array)
        for name, values in (arrays or {}).items():
            fields += [name, None]
            sent.append(values)
        return self._channel.ask(fields, sent)


def setting(value):
    """Type and text of a field of `task`."""
    if value is None:
        return "none", ""
    for kind, text in ((bool, lambda flag: str(flag).lower()), (int, str), (float, repr), (str, str)):
        if isinstance(value, kind):
            return kind.__name__, text(value)
    raise TypeError("a task's %r of type %s cannot be handed to Julia" % (value, type(value).__name__))


def readable(array):
    """The array itself where Julia can read its memory, else a copy in C order."""
    array = np.asanyarray(array)
    if array.dtype.name not in TYPES or not array.dtype.isnative:
        raise TypeError("arrays of type %s cannot be handed to Julia, only %s" % (array.dtype, ", ".join(TYPES)))
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def line(fields, arrays, source):
    """One request; each None in `fields` stands for the next array, which becomes type, shape and source."""
    arrays = iter(arrays)
    words = []
    for field in fields:
        if field is None:
            array = next(arrays)
            words += [array.dtype.name, ",".join(map(str, array.shape)), source(array)]
        else:
            words.append(str(field))
    for word in words:
        if "\t" in word or "\n" in word:
            raise ValueError("a name or path with a tab or a line break cannot be handed to Julia: %r" % word)
    return "\t".join(words)


def results(answer, read):
    """The arrays of an answer {name: array}; `read(dtype, shape, source)` fetches each."""
    words = answer.split("\t")
    if words[0] == "error":
        if words[1].startswith("OutOfMemoryError"):
            raise MemoryError(words[1])
        if words[1].startswith("InterruptException"):
            raise KeyboardInterrupt(words[1])
        raise JuliaError(words[1])
    if words[0] != "ok":
        raise RuntimeError("julia gave %r instead of an answer; its own lines are in the log above" % answer[:80])
    named = OrderedDict()
    for name, dtype, shape, source in zip(*(words[start::4] for start in range(1, 5))):
        named[name] = read(np.dtype(dtype), tuple(map(int, shape.split(","))), source)
    return named


def file_of(array):
    """(path, offset in bytes) of an array that lies, as it is, in a memory-mapped file; None otherwise."""
    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode not in ("r", "r+"):
        return None
    return str(root.filename), root.offset + array.ctypes.data - root.ctypes.data


class Process:
    """A channel to a `julia` process: requests on its standard input, answers on its standard output."""

    def __init__(self, command, environment):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ, **environment)
        )
        atexit.register(self.close)

    def ask(self, fields, arrays):
        sent = []

        def source(array):
            place = file_of(array) if array.size else None
            if place is not None:
                return "file:%d:%s" % (place[1], os.path.abspath(place[0]))
            sent.append(array)
            return "bytes"

        request = line(fields, arrays, source)
        try:
            self._process.stdin.write(b"%d\t%s\n" % (sum(array.nbytes for array in sent), request.encode()))
            for array in sent:
                self._process.stdin.write(array.reshape(-1).view(np.uint8).data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._gone(fields[0])
        answer = self._process.stdout.readline()
        if not answer.endswith(b"\n"):
            self._gone(fields[0])
        return results(answer.decode()[:-1], lambda dtype, shape, _: self._read(dtype, shape, fields[0]))

    def processor_seconds(self):
        """Of the julia process, as Linux keeps them; 0 elsewhere."""
        try:
            with open("/proc/%d/stat" % self._process.pid) as file:
                user, system = file.read().rpartition(")")[2].split()[11:13]
        except OSError:
            return 0.0
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _read(self, dtype, shape, verb):
        array = np.empty(shape, dtype)
        missing = memoryview(array.reshape(-1).view(np.uint8))
        while len(missing):
            count = self._process.stdout.readinto(missing)
            if not count:
                self._gone(verb)
            missing = missing[count:]
        return array

    def _gone(self, verb):
        try:
            code = self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError("the julia process closed its pipe during %s and was ended" % verb) from None
        how = "was ended by signal %d" % -code if code < 0 else "ended with exit code %d" % code
        raise RuntimeError("the julia process %s during %s; its own lines are in the log above" % (how, verb)) from None

    def close(self):
        """Ends the process: it leaves by itself when its input ends, else it is killed."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(BrokenPipeError):  # it is ending already
            self._process.stdin.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class InProcess:
    """A channel to Julia within this process: arrays are addresses, nothing is copied on the way in."""

    def __init__(self, answer):
        self._answer = answer

    def ask(self, fields, arrays):
        request = line(fields, arrays, lambda array: "memory:%d" % array.ctypes.data)
        # `arrays` own the memory that Julia reads during this call; what it keeps for longer, a Handle owns.
        return results(str(self._answer(request)), read_memory)

    def processor_seconds(self):
        """Julia's are this process's own."""
        return 0.0

    def close(self):
        """Julia ends with this process."""


def read_memory(dtype, shape, source):
    """A copy of `shape` values at the address in `source`; Julia frees its own at the next request."""
    from ctypes import c_char

    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, dtype)
    memory = (c_char * (count * dtype.itemsize)).from_address(int(source.split(":")[1]))
    return np.frombuffer(memory, dtype, count).reshape(shape).copy()


def half(job):
    """The path of the Julia half of the contract."""
    path = os.path.join(job.root, "julia", "rosetta.jl")
    if not os.path.exists(path):
        raise Unavailable("%s is missing: the checkout is not complete" % path)
    return path


def open_julia_process(job):
    """The leg of `job`, served by a `julia` process of its own.

    Raises Unavailable where there is no Julia, JuliaError where the leg's file cannot be loaded.
    """
    tools = ready(job.toolchain)
    command = [tools["julia"]] + list(tools["arguments"])
    command += ["--startup-file=no", "-e", "include(ARGS[1]); Rosetta.serve()", half(job)]
    try:
        channel = Process(command, tools["environment"])
    except OSError as error:
        raise Unavailable("julia cannot be started: %s; run the set-up again" % error) from None
    return Leg(channel, job)


def open_juliacall(job):
    """The leg of `job`, with Julia in this process.

    Raises Unavailable where juliacall is missing, JuliaError where the leg's file cannot be loaded.
    """
    tools = ready(job.toolchain)
    for name, value in tools["environment"].items():  # juliacall reads its options from there when it is imported
        os.environ.setdefault(name, value)  # a framework may have set its own, such as more threads
    try:
        import juliacall
    except ImportError as error:
        raise Unavailable("juliacall cannot be imported: %s; run the set-up again" % error) from None
    juliacall.Main.seval("path -> Base.include(Main, path)")(half(job))
    return Leg(InProcess(juliacall.Main.seval("Rosetta.answer")), job)


def ready(toolchain):
    """The toolchain, where it is usable; raises Unavailable with its reason where it is not."""
    if not toolchain or toolchain.get("status") != "ready":
        raise Unavailable((toolchain or {}).get("reason") or "no Julia was set up; run the set-up again")
    return toolchain
