"""Programs on as many CPU devices as a test asks for: a process of its own, since JAX counts its devices once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(devices: int) -> dict[str, str]:
    """This process's environment with `devices` CPU devices."""
    return os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}


def run_on(devices: int, module: str, *arguments: str, timeout: float = 900) -> Any:
    """What `python -m module` prints as its last line, as JSON; its errors are the test's."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment(devices),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.splitlines()[-1])
