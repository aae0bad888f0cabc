"""The tests of this room compile the same tiny step again and again: one compile cache for all of them."""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    if jax.config.jax_compilation_cache_dir is None:
        settings = {
            "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compile_cache")),
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        for name, value in settings.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)  # for the processes that tests start
