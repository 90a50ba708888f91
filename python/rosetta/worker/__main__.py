"""`python -m rosetta.worker JOB.json`: runs one leg once, or a device's ceiling, in this process, and reports events."""

import ctypes
import os
import platform
import signal
import sys
import time
import traceback

STARTED = time.perf_counter()

from .bridges import open_leg  # noqa: E402
from .ceiling import ceiling  # noqa: E402
from .job import Events, Unavailable, lacks_memory, read  # noqa: E402
from .measure import measure  # noqa: E402
from .proof import prove  # noqa: E402


def die_with_parent(parent):
    """Linux kills this process when the harness dies, however that ends: no orphan goes on loading the device.

    A harness that has died before this was asked for is noticed by its process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the harness that started this worker has ended")


def versions(leg, job):
    """What ran: the interpreter, the libraries that framework.toml names, and what the bridge adds."""
    found = {"python": platform.python_version()}
    for name in job.libraries:
        number = getattr(sys.modules.get(name), "__version__", None) or installed_version(name)
        if number:
            found[name] = str(number)
    found.update(getattr(leg, "versions", dict)())
    return found


def installed_version(name):
    """For a module that does not say its version: what the package of that name was installed as; None where that is not known."""
    try:
        from importlib import metadata  # not in CNTK's Python 3.6

        return metadata.version(name)
    except ImportError:
        return None


def peak_memory():
    """Highest resident memory of this process in bytes, as Linux keeps it; 0 elsewhere."""
    try:
        with open("/proc/self/status") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


def run(job, events):
    """Proves or times a leg."""
    leg = open_leg(job)
    events.send("phase", phase="import", seconds=time.perf_counter() - STARTED)
    {"measure": measure, "prove": prove}[job.verb](leg, job, events)
    events.send("memory", bytes=peak_memory())
    events.send("versions", versions=versions(leg, job))


def main(path):
    job = read(path)
    die_with_parent(job.parent)
    events = Events(job.events)
    events.send("start", pid=os.getpid())
    try:
        (ceiling if job.verb == "ceiling" else run)(job, events)
    except Unavailable as error:
        events.send("error", status="unavailable", reason=str(error))
        return 3
    except MemoryError as error:
        traceback.print_exc()
        events.send("error", status="out-of-memory", reason="MemoryError: %s" % error)
        return 1
    except NotImplementedError as error:
        traceback.print_exc()
        events.send("error", status="unsupported", reason="%s" % (str(error).strip() or "no message").splitlines()[0])
        return 3
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        status = "out-of-memory" if lacks_memory(str(error)) else "failed"
        events.send("error", status=status, reason="%s: %s" % (type(error).__name__, first))
        return 1
    events.send("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
