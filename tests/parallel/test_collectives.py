"""Communication read from compiled programs: against arithmetic on eight fake devices, and every spelling of HLO by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storyjax.errors import StoryjaxError
from storyjax.parallel.collectives import Array, Collective, Traffic, collectives, communication
from tests.parallel import collectives_driver as driver

ROOT = Path(__file__).parents[2]
MATRICES = 2 * driver.WIDTH * driver.INNER * 4  # bytes of the parameters in float32
ACTIVATIONS = driver.BATCH * driver.WIDTH * 4


@pytest.fixture(scope="module")
def read() -> dict[str, dict[str, Traffic]]:
    """What the driver read from its programs."""
    flags = f"--xla_force_host_platform_device_count={driver.DEVICES}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.parallel.collectives_driver"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return {name: {kind: Traffic(**values) for kind, values in kinds.items()} for name, kinds in told.items()}


# ----- programs ------------------------------------------------------------------------------------------------------


def test_tensor_parallelism_sums_the_activations_once(read):
    assert read["tensor"] == {"all-reduce": Traffic(1, ACTIVATIONS, 2 * 7 / 8 * ACTIVATIONS)}


def test_a_loop_counts_every_round(read):
    found = read["tensor_rounds"]["all-reduce"]
    assert (found.count, found.payload) == (driver.ROUNDS, driver.ROUNDS * ACTIVATIONS)


def test_data_parallelism_sums_the_gradients_and_nothing_else(read):
    assert read["data"].keys() == {"all-reduce"}
    assert read["data"]["all-reduce"].payload == MATRICES


def test_fsdp_gathers_the_parameters_and_sums_the_gradients(read):
    found = read["fsdp"]
    assert found["all-gather"].payload == MATRICES
    sums = [found[kind].payload for kind in ("all-reduce", "reduce-scatter") if kind in found]
    assert sum(sums) == MATRICES


def test_a_ring_passes_each_devices_part_once(read):
    assert read["ring"] == {"collective-permute": Traffic(1, 8 * driver.WIDTH * 4, 8 * driver.WIDTH * 4)}


def test_all_to_all_sends_all_but_ones_own_part(read):
    part = 8 * driver.WIDTH * 4
    assert read["all_to_all"] == {"all-to-all": Traffic(1, part, 7 / 8 * part)}


def test_a_scattered_sum_begins_with_the_whole(read):
    """Backends without such an operation sum the whole and cut it."""
    assert read["scatter"].keys() <= {"reduce-scatter", "all-reduce"}
    assert sum(traffic.payload for traffic in read["scatter"].values()) == 8 * driver.WIDTH * 4


def test_a_program_without_a_mesh_is_silent(read):
    assert read["alone"] == {}


# ----- text ----------------------------------------------------------------------------------------------------------

HEADER = "HloModule jit_f, is_scheduled=true, num_partitions=8\n\n"


def entry(line: str) -> str:
    return f"{HEADER}ENTRY %main.1_spmd (param: f32[16]) -> f32[16] {{\n  %param = f32[16]{{0}} parameter(0)\n  {line}\n}}\n"


@pytest.mark.parametrize(
    ("line", "kind", "results", "group"),
    [
        (
            "ROOT %r = f32[16]{0} all-reduce(%param), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add",
            "all-reduce",
            (Array("f32", (16,)),),
            4,
        ),
        (
            "%r = (bf16[8,4]{1,0:T(8,128)}, f32[]) all-reduce-start(%a, /*index=1*/%b), replica_groups=[1,8]<=[8], to_apply=%add",
            "all-reduce",
            (Array("bf16", (8, 4)), Array("f32", ())),
            8,
        ),
        (
            "%r = (f32[16]{0}, f32[64]{0}) all-gather-start(%param), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}",
            "all-gather",
            (Array("f32", (64,)),),
            4,
        ),
        (
            "%r = ((f32[2]{0}, s8[3]{0}), (f32[16]{0}, s8[24]{0})) all-gather-start(%a, %b), replica_groups={}, dimensions={0}",
            "all-gather",
            (Array("f32", (16,)), Array("s8", (24,))),
            8,
        ),
        (
            "%r = (f32[16]{0}, f32[16]{0}, u32[], u32[]) collective-permute-start(%param), source_target_pairs={{0,1}}",
            "collective-permute",
            (Array("f32", (16,)),),
            8,
        ),
        (
            "%r = f32[2]{0} reduce-scatter(%param), replica_groups=[1,8]<=[8], dimensions={0}, to_apply=%add",
            "reduce-scatter",
            (Array("f32", (2,)),),
            8,
        ),
    ],
)
def test_every_spelling_is_read(line, kind, results, group):
    assert collectives(entry(line)) == [Collective(kind, results, group)]


def test_what_ends_an_asynchronous_operation_is_not_a_second_one():
    text = entry(
        "%s = f32[16]{0} all-reduce-start(%param), replica_groups={}, to_apply=%add\n"
        "  ROOT %d = f32[16]{0} all-reduce-done(%s)"
    )
    assert communication(text)["all-reduce"].count == 1


def test_an_operation_wrapped_to_be_asynchronous_counts_once():
    wrapped = (
        "%wrapped (p: f32[16]) -> f32[2] {\n"
        "  ROOT %r = f32[2]{0} reduce-scatter(%p), replica_groups={}, dimensions={0}, to_apply=%add\n}\n\n"
    )
    lines = (
        "%s = ((f32[16]), f32[2]) async-start(%param), calls=%wrapped\n"
        "  ROOT %d = f32[2]{0} async-done(%s), calls=%wrapped"
    )
    assert communication(HEADER + wrapped + entry(lines).removeprefix(HEADER)) == {
        "reduce-scatter": Traffic(1, 64, 56.0)
    }


def loop(trips: str) -> str:
    body = (
        "%body (p: f32[16]) -> f32[16] {\n"
        "  ROOT %r = f32[16]{0} all-reduce(%p), replica_groups={}, to_apply=%add\n}\n\n"
    )
    line = f"ROOT %w = f32[16]{{0}} while(%param), condition=%test, body=%body{trips}"
    return HEADER + body + entry(line).removeprefix(HEADER)


def test_the_length_of_a_loop_is_taken_from_the_compiler():
    known = loop(', backend_config={"known_trip_count":{"n":"50"},"other":{}}')
    (found,) = collectives(known)
    assert (found.times, found.exact, found.payload) == (50, True, 50 * 64)


def test_a_loop_of_unknown_length_is_one_inexact_round():
    (found,) = collectives(loop(""))
    assert (found.times, found.exact) == (1, False)


def test_of_branches_the_one_that_sends_most_counts():
    branches = "".join(
        f"%b{n} (p: f32[{n}]) -> f32[{n}] {{\n  ROOT %r = f32[{n}]{{0}} all-reduce(%p), replica_groups={{}}\n}}\n\n"
        for n in (4, 16)
    )
    line = "ROOT %c = f32[16]{0} conditional(%i, %param, %param), branch_computations={%b4, %b16}"
    assert communication(HEADER + branches + entry(line).removeprefix(HEADER))["all-reduce"] == Traffic(1, 64, 112.0)


def test_groups_of_one_say_nothing():
    assert not collectives(entry("ROOT %r = f32[16]{0} all-reduce(%param), replica_groups={{0},{1}}, to_apply=%add"))


@pytest.mark.parametrize(
    ("dtype", "size"), [("pred", 1), ("bf16", 2), ("f8e4m3fn", 1), ("s64", 8), ("c64", 8), ("c128", 16), ("u4", 0.5)]
)
def test_bytes_of_every_dtype(dtype, size):
    assert Array(dtype, (4, 6)).bytes == 24 * size


def test_groups_written_in_an_unknown_way_are_an_error():
    with pytest.raises(StoryjaxError, match="replica groups"):
        collectives(entry("ROOT %r = f32[16]{0} all-reduce(%param), replica_groups=@mesh<a=8>, to_apply=%add"))
