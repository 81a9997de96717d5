"""Tries whether a component can be imported, in a separate process that cannot harm this one."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from agmbench.errors import describe
from agmbench.registry import Entry
from agmbench.testing.checks import Check

PATIENCE = 120.0  # seconds; torch and transformers together take up to a few tens on a slow disk
CODE = """
import pickle, sys
from pathlib import Path
from agmbench.errors import AgmbenchError
entry, result = pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
try:
    entry.import_target()
    result.write_text("loaded")
except AgmbenchError as error:
    result.write_text(str(error))
"""


def imported(entry: Entry) -> Check:
    """The check whether the target of an entry can be imported within `PATIENCE`, without printing to standard output."""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "entry", Path(folder) / "result"
        given.write_bytes(pickle.dumps(entry))
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", CODE, str(given), str(result)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # so that it finds the same modules
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _failed(f"{entry.target} is not imported after {PATIENCE:g} s; expected an import that ends")
        except OSError as error:
            return _failed(f"no process could be started ({describe(error)})")
        said = result.read_text() if result.is_file() else ""
    if said not in ("loaded", ""):
        return _failed(said)
    if not said or done.returncode:
        last = "".join(f" ({line})" for line in done.stderr.strip().splitlines()[-1:])
        return _failed(f"the import of {entry.target} ended the process {_how(done.returncode)}{last}; expected it to go on")
    if printed := done.stdout.strip():
        return _failed(f"printed {printed.splitlines()[0]!r} on import; expected nothing on standard output")
    return Check("imports", "passed", f"{entry.target}, in a process of its own")


def _how(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _failed(reason: str) -> Check:
    return Check("imports", "failed", " ".join(reason.split()))
