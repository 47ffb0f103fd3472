"""Ask the serving code what it makes of a candidate: a process of its own, with a deadline.

Flows never import the gateway. A candidate that kills its process, hangs, or cannot be loaded does
so there, and is refused with what the process said last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from registry.gate_evidence import Measured

SECONDS = 60.0  # of loading and measuring; the probe ends itself then
START = 60.0  # a busy machine needs half a minute to import torch; beyond both it is ended
TOLD = 600  # characters of what it said last
FIGURES = {
    "latency_p50_ms",
    "latency_p99_ms",
    "throughput_rows_s",
    "memory_mb",
    "size_bytes",
}


def probe(folder: Path, digest: str, learner: str, seconds: float = SECONDS) -> Measured:
    """Measure a candidate's `model/` folder in the real serving code.

    Args:
        folder: As it was saved.
        digest: Of it.
        learner: Reference that it may import.
        seconds: What loading and measuring may take, once the process has started.

    Returns:
        What was measured, or why nothing could be; nothing a candidate does raises here.
    """
    command = [sys.executable, "-m", "serving.probe", str(folder), "--digest", digest]
    command += ["--learner", learner, "--seconds", str(seconds)]
    with tempfile.TemporaryFile() as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                timeout=START + seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Measured(failure=f"The serving code did not answer within {seconds:g} s.")
        log.seek(max(0, log.seek(0, os.SEEK_END) - 8 * TOLD))
        said = log.read().decode("utf-8", "replace")
    return _read(done.stdout, done.returncode, said, seconds)


def _read(answer: bytes, code: int, said: str, seconds: float) -> Measured:
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if isinstance(found, dict) and "failure" in found:
        return Measured(failure=f"The serving code refused it: {found['failure']}")
    if code == 0 and isinstance(found, dict) and set(found) >= FIGURES:
        return Measured(**found)
    last = " ".join(said.split())[-TOLD:]
    if "Timeout (" in said:  # faulthandler's word, above where each thread was
        where = " ".join(said[said.rindex("Timeout (") :].split())[:TOLD]
        return Measured(failure=f"The serving code hung for {seconds:g} s. {where}")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return Measured(failure=f"The serving code {how} while it measured it. {last}".strip())


def _environment() -> dict[str, str]:
    """This process's, with its import path: what could be imported here can be there."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path}
