"""The mesh's text, what it means on a number of devices, and what is said where it does not fit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh

from storyjax.errors import StoryjaxError
from storyjax.parallel.mesh import AXES, MeshShape, check_batch, check_frames, make_mesh


def mesh_of(text: str) -> AbstractMesh:
    sizes = MeshShape.parse(text).sizes
    return AbstractMesh(tuple(sizes.values()), tuple(sizes))


def test_axes_that_are_not_named_have_one_device():
    assert MeshShape.parse("data=2, fsdp=4") == MeshShape(data=2, fsdp=4, frame=1, tensor=1)
    assert MeshShape.parse("") == MeshShape()


def test_minus_one_takes_the_devices_that_are_left():
    assert MeshShape.parse("data=-1,tensor=2").over(8) == MeshShape(data=4, tensor=2)
    assert MeshShape.parse("data=-1").over(1) == MeshShape()


@given(st.lists(st.sampled_from([-1, 1, 2, 3, 4, 6]), min_size=4, max_size=4), st.integers(1, 24))
def test_a_shape_over_devices_uses_each_once_or_names_one_that_does(sizes, devices):
    if sizes.count(-1) > 1:
        with pytest.raises(StoryjaxError, match="only one axis"):
            MeshShape(*sizes)
        return
    asked = MeshShape(*sizes)
    try:
        found = asked.over(devices)
    except StoryjaxError as error:
        found = MeshShape.parse(str(error).rsplit("'", 2)[1])  # the one it names
    assert math.prod(found.sizes.values()) == devices
    assert MeshShape.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fspd=2", "there is no axis 'fspd'; did you mean 'fsdp'"),
        ("data=two", "expected data=NUMBER, got 'data=two'"),
        ("data", "expected data=NUMBER"),
        ("data=2,data=2", "stands there twice"),
        ("frame=0", "axis frame must be 1 or more"),
        ("data=-1,fsdp=-1", "only one axis may be -1"),
    ],
)
def test_a_text_that_is_no_mesh_says_what_is_wrong(text, words):
    with pytest.raises(StoryjaxError, match=words):
        MeshShape.parse(text)


@pytest.mark.parametrize(
    ("text", "devices", "nearest"),
    [
        ("data=2,fsdp=4", 6, "data=2,fsdp=3"),
        ("data=3", 8, "data=8"),
        ("data=8", 1, "data=1"),
        ("fsdp=16,data=-1", 8, "data=1|fsdp=8"),
    ],
)
def test_a_mesh_that_does_not_fit_names_the_nearest_that_does(text, devices, nearest):
    with pytest.raises(StoryjaxError, match=f"does not fit {devices} device.*nearest that does is '({nearest})'"):
        MeshShape.parse(text).over(devices)


def test_the_mesh_of_this_machine_has_all_four_axes_and_they_are_auto():
    mesh = make_mesh()
    assert mesh.axis_names == AXES
    assert all(kind.name == "Auto" for kind in mesh.axis_types)


def test_a_batch_divides_over_data_and_fsdp_or_the_error_names_one_that_does():
    mesh = mesh_of("data=2,fsdp=4,tensor=2")
    check_batch(mesh, 16)
    check_batch(mesh, 16, accumulation=2)
    with pytest.raises(StoryjaxError, match=r"12 stories does not divide over the 8 shares.*batch_size=16"):
        check_batch(mesh, 12)
    with pytest.raises(StoryjaxError, match=r"in 4 micro-batches.*batch_size=32"):
        check_batch(mesh, 16, accumulation=4)


def test_frames_divide_over_their_axis_or_the_error_names_the_largest_that_does():
    check_frames(mesh_of("frame=5"), 5)
    with pytest.raises(StoryjaxError, match=r"5 frames do not divide over frame=4.*frame=1"):
        check_frames(mesh_of("frame=4"), 5)
    with pytest.raises(StoryjaxError, match=r"6 frames do not divide over frame=8.*frame=6"):
        check_frames(mesh_of("frame=8"), 6)
