"""Training on a mesh of eight devices is the training on one."""

import numpy as np
import pytest

from tests.parallel.devices import run_on

MESHES = ("ring:fsdp=2,frame=2,tensor=2",)
MORE = (
    "data=2,fsdp=4",
    "fsdp=2,frame=2,tensor=2",
    "data=2,frame=4",
    "ring:data=2,frame=4",
    "tensor=2,data=4",
    "data=8",
    "fsdp=8",
)


@pytest.fixture(scope="module")
def runs() -> dict[str, dict]:
    return run_on(8, "tests.parallel.train_on_meshes", "data=1", *MESHES)


@pytest.fixture(scope="module")
def more_runs(runs) -> dict[str, dict]:
    return runs | run_on(8, "tests.parallel.train_on_meshes", *MORE)


@pytest.mark.parametrize("mesh", MESHES)
def test_ten_losses_are_those_of_one_device(runs, mesh):
    assert_like_one_device(runs, mesh)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MORE)
def test_ten_losses_are_those_of_one_device_on_every_mesh(more_runs, mesh):
    assert_like_one_device(more_runs, mesh)


def assert_like_one_device(runs, mesh):
    alone = runs["data=1"]
    assert len(set(alone["losses"])) == 10
    np.testing.assert_allclose(runs[mesh]["losses"], alone["losses"], rtol=2e-5)
    np.testing.assert_allclose(runs[mesh]["parameters"], alone["parameters"], rtol=2e-5)


@pytest.mark.parametrize(("mesh", "share"), [("data=1", 1.0), ("ring:fsdp=2,frame=2,tensor=2", 0.35)])
def test_a_device_holds_its_share_of_the_state(runs, mesh, share):
    assert share <= runs[mesh]["share"] < share + 0.15
