"""One built dataset for the whole room."""

import pytest

from storyjax.data import open_source
from tests.data import worlds


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data directory with `tiny_stories` built in it."""
    path = tmp_path_factory.mktemp("datasets")
    worlds.build(path)
    return path


@pytest.fixture(scope="session")
def source(data_dir):
    return open_source("tiny_stories", "train", data_dir=data_dir)
