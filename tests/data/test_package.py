"""The public names exist, and importing the package costs nothing."""

import subprocess
import sys

import pytest

import storyjax.data


def test_every_public_name_resolves():
    for name in storyjax.data.__all__:
        assert getattr(storyjax.data, name) is not None
    assert set(storyjax.data.__all__) <= set(dir(storyjax.data))
    with pytest.raises(AttributeError, match="no attribute 'open_sauce'"):
        _ = storyjax.data.open_sauce


def test_importing_the_package_loads_nothing_heavy():
    heavy = "tensorflow_datasets", "transformers", "grain", "jax", "PIL"
    code = f"import sys, storyjax.data; print([name for name in {heavy!r} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
