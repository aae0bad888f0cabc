"""All tests run on the CPU and share one compile cache, which lives as long as the run.

The environment says so, and before anything imports JAX: the processes that tests start follow too. A cache of the caller's own
(JAX_COMPILATION_CACHE_DIR) is left to the caller; it makes the next run faster.
"""

import importlib.util
import os
import shutil
import tempfile

import hypothesis
import pytest

OWN_CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="storyjax_tests_")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(OWN_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# A busy machine may take seconds over what takes milliseconds.
hypothesis.settings.register_profile("storyjax", deadline=None)
hypothesis.settings.load_profile("storyjax")


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(request):
    """A module's RANDOM begins anew with every test, so that a test does not depend on those before it."""
    random = getattr(request.module, "RANDOM", None)
    if random is not None:
        start = vars(request.module).setdefault("_START_OF_RANDOM", random.bit_generator.state)
        random.bit_generator.state = start


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer of a few words, which every tiny model reads with."""
    from tests import tiny

    return tiny.tokenizer_folder(tmp_path_factory.mktemp("tiny") / "tokenizer")


@pytest.fixture(scope="module")
def quick_compiles():
    """Compilation without the effort that only long runs repay."""
    from tests import tiny

    with tiny.quick_compiles():
        yield


@pytest.fixture(scope="session")
def _gcs():
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("gcsfs is not installed (the extra [gcs])")
    from tests.fake_gcs import serving

    with serving("bucket") as storage:
        yield storage


@pytest.fixture
def gcs(_gcs, tmp_path, monkeypatch):
    """A storage with one empty bucket, "bucket", and a cache folder. It is always the same: clients remember its port."""
    _gcs.objects.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return _gcs


def pytest_unconfigure() -> None:
    if OWN_CACHE:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)
