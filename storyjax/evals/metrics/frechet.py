"""The Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017, arXiv 1706.08500), in float64.

    d = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2),    S with n - 1 in the denominator

Published code takes the square root of the product of two large matrices, which has no good answer where there are fewer
samples than dimensions. But with S = R^T R the last trace is the sum of the singular values of R1 R2^T, whatever R is: the
centred features themselves where they are few, their triangular factor where they are many. That is exact and stable for any
number of samples from two on. The sets may have different sizes; the distance then still compares two Gaussians, but the
smaller set's covariance is the more scattered, and the distance the larger: compare numbers of equal N only.
"""

from typing import Any

import numpy as np
from scipy import linalg

from storyjax.errors import StoryjaxError


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two sets of features (N, D) and (M, D). NaN with fewer than two rows in either; errors: other shapes, NaN."""
    one, other = _checked(one, "first"), _checked(other, "second")
    if one.shape[1] != other.shape[1]:
        raise StoryjaxError(
            f"a Fréchet distance needs features of one network: the first set has {one.shape[1]} numbers a row, the second "
            f"{other.shape[1]}"
        )
    if min(len(one), len(other)) < 2:
        return float("nan")
    (mean1, factor1), (mean2, factor2) = _gaussian(one), _gaussian(other)
    both = _sum_of_singular_values(factor1 @ factor2.T)
    return _distance(mean1 - mean2, np.square(factor1).sum(), np.square(factor2).sum(), both)


def _checked(rows: np.ndarray, which: str) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2:
        raise StoryjaxError(f"expected the {which} set of features as rows (N, D), got the shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise StoryjaxError(f"the {which} set of features holds NaN or infinity; look at the pictures and the weights")
    return rows


def _distance(difference: np.ndarray, trace1: float, trace2: float, both: float) -> float:
    """Rounding can leave a distance of equal sets a hair below 0."""
    return max(float(difference @ difference + trace1 + trace2 - 2 * both), 0.0)


def _gaussian(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and a factor R with R^T R = S: (N, D), or (D, D) triangular where N is larger."""
    mean = rows.mean(axis=0)
    centred = (rows - mean) / np.sqrt(len(rows) - 1)
    if len(rows) <= rows.shape[1]:
        return mean, centred
    factor: Any = linalg.qr(centred, mode="r", overwrite_a=True, check_finite=False)
    return mean, factor[0][: rows.shape[1]]


def _sum_of_singular_values(matrix: np.ndarray) -> float:
    found: Any = linalg.svdvals(matrix, overwrite_a=True, check_finite=False)
    return float(found.sum())


class Resampled:
    """The distance again and again for other weights of the same rows, as a bootstrap wants it: what can be is computed once.

    one (N, D), other (M, D). `distance(c1, c2)` takes how often each row counts. Where there are fewer rows than dimensions all
    comes from the products of rows with each other, and a draw costs nothing that grows with D. Elsewhere from weighted
    moments.
    """

    def __init__(self, one: np.ndarray, other: np.ndarray):
        self.one, self.other = _checked(one, "first"), _checked(other, "second")
        centre = (self.one.mean(axis=0) + self.other.mean(axis=0)) / 2  # the same for both: no distance changes
        self.one, self.other = self.one - centre, self.other - centre
        self.few = max(len(one), len(other)) <= self.one.shape[1]
        if self.few:
            self.products = self.one @ self.one.T, self.one @ self.other.T, self.other @ self.other.T

    def distance(self, counts1: np.ndarray, counts2: np.ndarray) -> float:
        """counts1 (N,), counts2 (M,): how often each row was drawn. NaN where less than two were."""
        if min(counts1.sum(), counts2.sum()) < 2:
            return float("nan")
        return self._from_products(counts1, counts2) if self.few else self._from_moments(counts1, counts2)

    def _from_products(self, counts1: np.ndarray, counts2: np.ndarray) -> float:
        own1, across, own2 = self.products
        share1, share2 = counts1 / counts1.sum(), counts2 / counts2.sum()
        to2, to1 = across @ share2, share1 @ across  # rows of one by the mean of the other
        means = share1 @ own1 @ share1, share1 @ to2, share2 @ own2 @ share2
        trace1 = (counts1 @ np.diag(own1) - counts1.sum() * means[0]) / (counts1.sum() - 1)
        trace2 = (counts2 @ np.diag(own2) - counts2.sum() * means[2]) / (counts2.sum() - 1)
        in1, in2 = np.flatnonzero(counts1), np.flatnonzero(counts2)
        centred = across[np.ix_(in1, in2)] - to2[in1, None] - to1[None, in2] + means[1]
        centred *= np.sqrt(counts1[in1] / (counts1.sum() - 1))[:, None] * np.sqrt(counts2[in2] / (counts2.sum() - 1))
        both = _sum_of_singular_values(centred)
        return max(float(means[0] + means[2] - 2 * means[1] + trace1 + trace2 - 2 * both), 0.0)

    def _from_moments(self, counts1: np.ndarray, counts2: np.ndarray) -> float:
        (mean1, cov1), (mean2, cov2) = _moments(self.one, counts1), _moments(self.other, counts2)
        root = _root(cov1)
        inner = root.T @ cov2 @ root
        found = linalg.eigvalsh(inner, overwrite_a=True, check_finite=False)
        both = np.sqrt(np.maximum(found, 0)).sum()
        return _distance(mean1 - mean2, np.trace(cov1), np.trace(cov2), both)


def _root(covariance: np.ndarray) -> np.ndarray:
    """L with L L^T = S: triangular, or where S is singular by its eigenvectors, which takes longer."""
    try:
        return linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        values, vectors = linalg.eigh(covariance, driver="evd", check_finite=False)
        return vectors * np.sqrt(np.maximum(values, 0))


def _moments(rows: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance (n - 1) of rows that count several times or not at all."""
    drawn = np.flatnonzero(counts)
    total, weights = counts.sum(), counts[drawn].astype(np.float64)
    chosen = rows[drawn]
    mean = weights @ chosen / total
    chosen = (chosen - mean) * np.sqrt(weights / (total - 1))[:, None]
    return mean, chosen.T @ chosen
