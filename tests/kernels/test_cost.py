"""What our kernels say of their cost: a network is counted alike with them and with the plain form."""

import jax
import jax.numpy as jnp
import pytest

from storyjax.kernels.flash_attention import tpu as flash
from storyjax.kernels.flash_attention.program import Blocks
from storyjax.kernels.story_attention import tpu as story
from storyjax.kernels.story_attention import xla
from storyjax.nn.attention import attention
from storyjax.nn.flops import count_flops
from tests.kernels.lowered import lowered_for_tpu, there_and_back

FLASH = [((2, 256, 4, 64), 384), ((2, 300, 8, 40), 77)]  # whole blocks; padded queries, keys and lanes
STORY = [(2, 5, 8, 8, 8, 40), (1, 64, 4, 4, 8, 160), (1, 1, 3, 3, 2, 8)]


def abstract(*sizes, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(sizes, dtype)


def plain(q, k, v):
    return attention(q, k, v, implementation="xla")


def fused(q, k, v):
    return flash.flash_attention(q, k, v, 0.1)


def pixels(q, k, v):
    return xla.story_attention(q, k, v, 0.1)


def tiles(q, k, v):
    return story.story_attention(q, k, v, 0.1)


@pytest.mark.parametrize(("shape", "keys"), FLASH)
def test_attention_counts_the_same_as_plain_products(shape, keys):
    q, k = abstract(*shape), abstract(shape[0], keys, *shape[2:])
    assert count_flops(fused, q, k, k).kernel == count_flops(plain, q, k, k).matmul == 4 * q.size * keys
    found, expected = (count_flops(there_and_back(form), q, k, k, q) for form in (fused, plain))
    assert found.kernel == found.total == expected.total == 3 * 4 * q.size * keys
    assert not found.notes


@pytest.mark.parametrize("shape", STORY)
def test_attention_over_stories_counts_what_the_definition_needs(shape):
    """Of 9 F keys that the plain form multiplies, 9 F - 8 are seen; backward it computes the scores anew, which is not needed."""
    x, frames = abstract(*shape), shape[1]
    once = 2 * x.size * (9 * frames - 8)
    assert count_flops(tiles, x, x, x).kernel == 2 * once
    assert count_flops(pixels, x, x, x).total * (9 * frames - 8) == 2 * once * 9 * frames
    found, expected = (count_flops(there_and_back(form), x, x, x, x) for form in (tiles, pixels))
    assert found.total == 6 * once
    assert expected.total * (9 * frames - 8) == 7 * once * 9 * frames
    assert not found.notes


def estimates(function, *arguments):
    """Of the kernels in a function's jaxpr: operations in units of one product of all queries with all keys, and bytes."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "pallas_call":
                yield equation.params["cost_estimate"]
            else:
                for value in equation.params.values():
                    inner = getattr(value, "jaxpr", value)
                    if hasattr(inner, "eqns"):
                        yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*arguments).jaxpr))


def test_the_compiler_is_told_what_each_program_does():
    """Forward two products; backward three for the queries and four for the keys, as scores are computed anew by both."""
    q, k = abstract(2, 256, 2, 64), abstract(2, 384, 2, 64)
    found = estimates(there_and_back(lambda q, k, v: flash.flash_attention(q, k, v, 0.1, Blocks(64, 128))), q, k, k, q)
    assert [one.flops for one in found] == [products * 2 * q.size * 384 for products in (2, 3, 4)]
    assert {one.transcendentals for one in found} == {2 * 2 * 256 * 384}
    queries, keys = 2 * q.size, 2 * k.size  # bytes of one array
    # four blocks of queries each read all keys; three of keys each read all queries
    assert [one.bytes_accessed for one in found] == [
        2 * queries + 4 * 2 * keys,
        3 * queries + 4 * 2 * keys,
        4 * keys + 3 * 2 * queries,
    ]
    text = estimates(lambda q, k: flash.flash_attention(q, k, k, 0.1, Blocks(64, 128)), q, abstract(2, 77, 2, 64))
    assert text[0].bytes_accessed == 2 * queries + 2 * 2 * 2 * 77 * 128  # one block of keys stays where it is


def test_a_story_reads_three_rows_and_writes_one():
    x = abstract(6, 5, 8, 8, 8, 40)
    found = estimates(there_and_back(tiles), x, x, x, x)
    once, rows = 2 * x.size * 37, [2 + 6, 3 + 6, 4 + 6]
    assert [one.flops for one in found] == [2 * once, 3 * once, 4 * once]
    assert [one.bytes_accessed for one in found] == [row * 2 * 6 * 8 * 48 * 320 for row in rows]  # 8 x 5 tokens fill 48


def test_the_estimate_reaches_the_compiler():
    x = abstract(2, 16, 2, 64)
    assert "cost_estimate" in lowered_for_tpu(fused, x, x, x)
