"""The Fréchet distance against an independent computation by matrix square roots, also with fewer samples than dimensions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from storyjax.errors import StoryjaxError
from storyjax.evals.metrics.frechet import Resampled, frechet_distance

SIZES = [
    (300, 300, 64),
    (200, 90, 128),
    (30, 20, 128),
    (500, 100, 100),
    (40, 300, 64),
    (300, 40, 64),
    (64, 65, 64),
    (2, 2, 5),
]


def features(count, dimensions, seed):
    """Not negative, correlated, most of them small: as pooled features are."""
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
    scales = np.geomspace(1, 1e-3, dimensions)
    shift = 0.1 * seed
    return np.maximum(random.standard_normal((count, dimensions)) @ mix + shift, 0).astype(np.float32) * scales


def by_square_root(one, other):
    """As published code computes it, with a little on both diagonals where the product has no root."""
    difference = one.mean(0) - other.mean(0)
    cov1, cov2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = linalg.sqrtm(cov1 @ cov2)
    if not np.isfinite(root).all():
        ridge = 1e-12 * np.eye(len(cov1))
        root = linalg.sqrtm((cov1 + ridge) @ (cov2 + ridge))
    return difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root).real


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_equals_the_square_root_of_the_product(n, m, d):
    one, other = features(n, d, 1), features(m, d, 2)
    assert frechet_distance(one, other) == pytest.approx(by_square_root(one, other), rel=1e-3)


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_the_distance_of_resampled_rows_is_that_of_the_rows_repeated(n, m, d):
    one, other = features(n, d, 1), features(m, d, 2)
    random = np.random.default_rng(0)
    again = Resampled(one, other)
    for _ in range(3):
        counts1, counts2 = 1 + random.integers(-1, 2, n), 1 + random.integers(-1, 2, m)
        counts1[0] = counts2[0] = 2
        expected = frechet_distance(np.repeat(one, counts1, axis=0), np.repeat(other, counts2, axis=0))
        assert again.distance(counts1, counts2) == pytest.approx(expected, rel=1e-5)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 8), st.integers(0, 99))
def test_what_any_distance_is(n, m, d, seed):
    random = np.random.default_rng(seed)
    one, other = random.standard_normal((n, d)), random.standard_normal((m, d))
    found = frechet_distance(one, other)
    assert found == pytest.approx(frechet_distance(other, one), rel=1e-9)
    assert found >= np.square(one.mean(0) - other.mean(0)).sum() - 1e-9
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(one, one + 3) == pytest.approx(9 * d, rel=1e-9)
    order = random.permutation(n)
    assert frechet_distance(one[order], other) == pytest.approx(found, rel=1e-9, abs=1e-12)


def test_one_dimension_has_a_formula():
    one, other = np.array([[0.0], [2.0]]), np.array([[5.0], [5.0], [11.0]])
    expected = (1 - 7) ** 2 + (np.std(one, ddof=1) - np.std(other, ddof=1)) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_too_few_samples_and_wrong_shapes():
    many = features(9, 4, 1)
    assert np.isnan(frechet_distance(many, many[:1]))
    assert np.isnan(Resampled(many, many).distance(np.eye(9)[0], np.ones(9)))
    with pytest.raises(StoryjaxError, match="the first set has 4 numbers a row, the second 3"):
        frechet_distance(many, many[:, :3])
    with pytest.raises(StoryjaxError, match=r"second set of features as rows \(N, D\), got the shape \(9, 2, 2\)"):
        frechet_distance(many, many.reshape(9, 2, 2))
    with pytest.raises(StoryjaxError, match="first set of features holds NaN"):
        frechet_distance(np.where(many > 0, np.nan, many), many)
