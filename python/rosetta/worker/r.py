"""R in this process, by rpy2: the verbs of a leg's .R file as methods.

rpy2 has traps; those of a running R are dealt with here and in r/rosetta.R, and nowhere else. What is chosen before R starts is chosen where it
is set up: R and its BLAS in r_toolchain.py, versions of R's packages in r_packages.py, that of rpy2 in environments/r.in.

- R is started not interactive and without anybody's profile: a leg that asks a question gets no answer.
- rpy2 switches R's check of the C stack off; deep recursion would end in SIGSEGV instead of an R error.
- `quit()` in R ends the process with code 0. It raises an error instead.
- An R error reaches rpy2 as mere text. `attempt` in rosetta.R catches it first, with class, message and calls.
- R does not look at Python's signals: Ctrl-C has to be put into R's own variable R_interrupts_pending.
- R prints where Python does not see it: its output is sent to stderr, which is the leg's log.
- R is not thread-safe: it is used from the main thread alone.
- reticulate's finalizer waits at the end of the process for a lock of Python's that nobody gives back, and its thread goes on
  calling Python when that has ended. Both are dealt with before (`let_reticulate_end`).
- R has no float32 and no int64, and converting an array through rpy2 costs several copies. Arrays are allocated in R and
  filled through a NumPy view. Such a view does not keep R's memory alive: no view outlives the method that made it.
- A leg that drives a Python library wants NumPy arrays as they are: they pass by a module of that name, and R never copies them.
"""

import atexit
import ctypes
import os
import resource
import signal
import sys
import threading
import types

import numpy as np

from .job import Unavailable, lacks_memory

HANDOVER = "rosetta_handover"
"""The module by which arrays pass between this side and reticulate; r/rosetta.R imports it under this name."""

STACK_SHARE = 0.9
"""Of the process's C stack, what R may use: it needs the rest to raise its own error."""

LARGEST_STACK = 64 * 2**20
"""Where the process's stack is unlimited, so that endless recursion ends before the memory does."""

INTEGER_LIMIT = 2**31

MISSING = ("packageNotFoundError", "python.builtin.ModuleNotFoundError", "python.builtin.ImportError")
"""Classes of the condition where a leg's file asks for a package, of R or of Python, that is not there."""


class RError(Exception):
    """An error in R code. The first line is `class: message`, the others R's calls."""


def open_rpy2(job):
    """The leg of `job` in a fresh R. Raises Unavailable where rpy2 or R is missing, RError where the file fails."""
    for name, value in job.toolchain.get("environment", {}).items():
        os.environ.setdefault(name, value)
    r = R(os.path.join(job.root, "r", "rosetta.R"))
    r.limit_threads(job.task.threads)
    try:
        return Leg(r, job.file)
    except RError as error:
        first = str(error).splitlines()[0]
        if first.startswith(MISSING):
            raise Unavailable("%s (in %s); `rosetta doctor` says what mends it" % (first, sys.executable)) from None
        raise


class Leg:
    """The contract's verbs, with NumPy arrays outside and R objects inside; Python objects for a leg that says `python_arrays <- TRUE`."""

    def __init__(self, r, file):
        self._r = r
        self._functions = r.call(r.half["open_leg"], r.rinterface.StrSexpVector([file]))
        self._names = set(self._functions.keys())
        self._array, self._numpy = r.array, r.numpy
        if "python_arrays" in self._names:
            self._array, self._numpy = r.handed_over, r.taken_back

    def _call(self, verb, *arguments):
        if verb not in self._names:
            raise AttributeError("the leg has no function %s()" % verb)
        return self._r.call(self._functions[verb], *arguments)

    def build(self, task, weights):
        return self._call("build", self._r.named_list(vars(task)), self._weights(weights))

    def load(self, model, weights):
        self._call("load", model, self._weights(weights))

    def place(self, model, array):
        return self._call("place", model, self._array(array))

    def train(self, model, x, y, order):
        return self._numpy(self._call("train", model, x, y, self._array(order)))

    def predict(self, model, x):
        return self._numpy(self._call("predict", model, x))

    def weights(self, model):
        found = self._call("weights", model)
        return {name: self._numpy(array) for name, array in zip(found.names, found)}

    def synchronize(self, model):
        self._call("synchronize", model)

    def versions(self):
        version, blas, lapack = self._r.call(self._r.half["versions"])
        packages = self._r.call(self._r.half["package_versions"])
        return {
            "r": version,
            "blas": self._r.openblas_config() or blas or lapack or "built into R",
            "rpy2": self._r.rpy2_version,
            # R's package `tensorflow` has another version than Python's.
            **{
                name + " for R" if name in sys.modules else name: version
                for name, version in zip(packages.names, packages)
            },
        }

    def _weights(self, weights):
        return self._r.named_list({name: self._array(array) for name, array in weights.items()})


class R:
    """The process's one R.

    Attributes:
        half: the functions of r/rosetta.R.
    """

    def __init__(self, file):
        require_main_thread()
        try:
            from importlib.metadata import version

            from rpy2.rinterface_lib import callbacks, embedded, openrlib
        except (ImportError, OSError, ValueError) as error:
            # ImportError: no rpy2; OSError: a libR that rpy2 does not fit; ValueError: no R.
            first = (str(error).strip() or "no message").splitlines()[0]
            reason = "rpy2 or R cannot be loaded in %s (%s); `rosetta doctor` says what is missing"
            raise Unavailable(reason % (sys.executable, first)) from error
        callbacks.consolewrite_print = callbacks.consolewrite_warnerror = write_to_log
        callbacks.showmessage = write_to_log
        callbacks.consoleread = end_of_input

        embedded.set_initoptions(("rpy2", "--vanilla", "--quiet"))
        import rpy2.rinterface

        self.rinterface = rpy2.rinterface
        self.rpy2_version = version("rpy2")
        if not embedded.isinitialized():
            self.rinterface.initr(interactive=False, _c_stack_limit=stack_limit())
        interrupt_r(openrlib.rlib)

        base = self.rinterface.baseenv
        base["options"](warn=self.rinterface.IntSexpVector([1]))
        self.half = base["new.env"]()
        base["sys.source"](self.rinterface.StrSexpVector([file]), envir=self.half)
        self.half["forbid_quit"]()
        self._handover = types.ModuleType(HANDOVER)
        sys.modules[HANDOVER] = self._handover
        # After rpy2's own handlers are registered, so before they run.
        atexit.register(self.half["let_reticulate_end"])

    def call(self, function, *arguments):
        """What an R function returns. Raises RError; MemoryError where R found no memory; KeyboardInterrupt after Ctrl-C."""
        require_main_thread()
        result = self.half["attempt"](function, *arguments)
        if len(result) == 1:
            return result[0]
        text, trace, kind = (result[i][0] for i in (1, 2, 3))
        if kind == "interrupt":
            raise KeyboardInterrupt
        if lacks_memory(text):
            raise MemoryError(text)
        raise RError(text + ("\nIn R, innermost call last:\n" + trace if trace else ""))

    def array(self, array):
        """An R array with the dimensions of `array` reversed: the same memory order. float32 becomes double, int64 integer."""
        array = np.asarray(array)
        mode, dtype = ("double", np.float64) if array.dtype.kind == "f" else ("integer", np.int32)
        if mode == "integer" and array.size and max(-int(array.min()), int(array.max())) >= INTEGER_LIMIT:
            raise OverflowError(
                "R's integers end at 2^31, the array reaches from %s to %s" % (array.min(), array.max())
            )
        dimensions = self.rinterface.FloatSexpVector([float(size) for size in array.shape[::-1]])
        vector = self.call(self.half["allocate"], self.rinterface.StrSexpVector([mode]), dimensions)
        view = np.asarray(vector)
        if view.dtype != dtype or view.size != array.size:
            raise TypeError("R gave %s of %d for %s of %d" % (view.dtype, view.size, array.dtype, array.size))
        view.T[...] = array
        return vector

    def handed_over(self, array):
        """The array as reticulate's reference to it: R sees a Python object and copies nothing."""
        self._handover.value = array
        return self.call(self.half["take_over"])

    def taken_back(self, value):
        """A C-order copy of what a leg gave: a Python object, or an R vector."""
        if self.call(self.half["is_python"], value)[0]:
            self.call(self.half["hand_back"], value)
            return np.array(self._handover.value, order="C")
        return self.numpy(value)

    @staticmethod
    def numpy(vector):
        """A C-order copy of an R vector or array, its dimensions reversed."""
        return np.array(np.asarray(vector).T, order="C")

    def named_list(self, values):
        """A list; values are R objects, or a task's scalars."""
        return self.rinterface.baseenv["list"](**{name: self._scalar(name, value) for name, value in values.items()})

    def _scalar(self, name, value):
        rinterface = self.rinterface
        if isinstance(value, rinterface.sexp.Sexp):
            return value
        if value is None:
            return rinterface.NULL
        for kinds, vector in (
            (bool, rinterface.BoolSexpVector),
            (int, rinterface.IntSexpVector),
            (float, rinterface.FloatSexpVector),
            (str, rinterface.StrSexpVector),
        ):
            if isinstance(value, kinds):
                return vector([value])
        raise TypeError("%s is a %s; a task holds numbers, strings and booleans" % (name, type(value).__name__))

    def limit_threads(self, count):
        """Gives R's OpenBLAS `count` threads. OPENBLAS_NUM_THREADS does so as well, but not if it loads after another one."""
        if self._openblas("openblas_set_num_threads"):
            self._openblas("openblas_set_num_threads")(int(count))

    def openblas_config(self):
        """Version and kernels of R's OpenBLAS, such as "OpenBLAS 0.3.21 ... Zen", or "" for another BLAS."""
        config = self._openblas("openblas_get_config")
        if config is None:
            return ""
        config.restype = ctypes.c_char_p
        return config().decode().strip()

    def _openblas(self, function):
        """A function of the OpenBLAS that R uses, which need not be NumPy's; None where R has another BLAS."""
        _, blas, _ = self.call(self.half["versions"])
        try:
            return getattr(ctypes.CDLL(blas), function) if blas else None
        except (OSError, AttributeError):
            return None


def stack_limit():
    """Bytes of C stack for R."""
    size, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return int(STACK_SHARE * (LARGEST_STACK if size == resource.RLIM_INFINITY else min(size, LARGEST_STACK)))


def interrupt_r(library):
    """Passes Ctrl-C on to R from now on.

    Python only notes a signal while R code runs in its main thread. A second thread sees it at once, through the wakeup
    file descriptor, and sets the variable that R looks at between calls.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    def watch():
        while True:
            if signal.SIGINT in os.read(reader, 64):
                library.R_interrupts_pending = 1

    threading.Thread(target=watch, name="Ctrl-C for R", daemon=True).start()


def require_main_thread():
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("R is not thread-safe: it can be used from the main thread alone")


def write_to_log(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def end_of_input(prompt):
    return ""
