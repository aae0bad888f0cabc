"""All tests run on the CPU and share one compile cache, which lives as long as the run.

The environment says so, and before anything imports JAX: the processes that tests start follow too. A cache of the caller's own
(JAX_COMPILATION_CACHE_DIR) is left to the caller; it makes the next run faster.
"""

import os
import shutil
import tempfile

import hypothesis

OWN_CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="storyjax_tests_")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(OWN_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# A busy machine may take seconds over what takes milliseconds.
hypothesis.settings.register_profile("storyjax", deadline=None)
hypothesis.settings.load_profile("storyjax")


def pytest_unconfigure() -> None:
    if OWN_CACHE:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)
