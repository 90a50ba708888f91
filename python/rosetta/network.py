"""Whether a server can be reached, before something that would wait for it much longer is started."""

import subprocess
import sys

SECONDS = 8
"""How long a server may take to answer."""

PROGRAM = """
import sys, urllib.error, urllib.request
address, seconds, any_status = sys.argv[1:]
try:
    urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=float(seconds))
except urllib.error.HTTPError:
    if any_status != "True":
        raise
"""


def answers(address: str, any_status: bool = False) -> bool:
    """Whether an address answers within seconds; with `any_status` an HTTP error is an answer too. Proxies are honoured.

    A process of its own asks, because looking up a name knows no timeout.
    """
    command = [sys.executable, "-c", PROGRAM, address, str(SECONDS), str(any_status)]
    try:
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS + 2).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False
