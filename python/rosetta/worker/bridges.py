"""How the verbs of the contract reach a leg's file, in each language.

Every bridge gives an object with the verbs of the contract: build, load, place, train, predict, weights,
synchronize. A Python leg is its own bridge: the module.
"""

import importlib.util
import os
import sys

from .job import Unavailable


def open_leg(job):
    """The leg of `job`, imported. Raises Unavailable where the language or a package is missing."""
    if job.bridge == "python":
        return open_python(job.file, job.folders)
    if job.bridge == "juliacall":
        from .julia import open_juliacall

        return open_juliacall(job)
    if job.bridge == "julia":
        from .julia import open_julia_process

        return open_julia_process(job)
    if job.bridge == "rpy2":
        from .r import open_rpy2

        return open_rpy2(job)
    raise ValueError("unknown bridge %r" % job.bridge)


def open_python(path, folders=()):
    """Imports a leg's file; its folder comes first on the path, for what several tasks share, then `folders`, for what frameworks share."""
    sys.path[:0] = [os.path.dirname(path)] + list(folders)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location("leg_" + name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        source = getattr(sys.modules.get(error.name or ""), "__file__", None) or ""
        if os.path.dirname(source) in [os.path.dirname(path)] + list(folders):
            raise  # a name that the leg's own files lack
        mend = "its package belongs into python/environments and a new lock, or, with deployment=current, into that interpreter"
        raise Unavailable("%s (in %s); %s" % (error, sys.executable, mend)) from None
    return module
