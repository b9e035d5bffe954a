"""Embeddings on a plane."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError, missing_extra

__all__ = ["Method", "Projection", "check_method", "project"]

Method = Literal["umap", "pca"]

_FEWEST = 3
_UMAP_COMPONENTS = 50


class Projection(NamedTuple):
    """Points and what their axes are."""

    points: NDArray[np.float64]
    """(records, 2)."""
    axes: tuple[str, str]


def check_method(method: Method) -> None:
    """Check, before any work, that a projection can be computed here.

    Raises:
        InputError: umap-learn is not installed.
    """
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise missing_extra("--plot umap", "umap")


def project(vectors: NDArray[np.float32], method: Method, *, seed: int = 0) -> Projection:
    """Project standardised vectors on a plane.

    Args:
        vectors: (records, width).
        method: `pca`, or `umap` of the first 50 principal components (15 neighbours, minimal distance 0.1).
        seed: of what is random in it; the same seed gives the same picture.

    Raises:
        InputError: fewer than three records, or umap-learn is not installed.
    """
    from sklearn.decomposition import PCA

    if len(vectors) < _FEWEST:
        raise InputError(f"a plot needs at least {_FEWEST} records, found {len(vectors)}")
    # In place: float64 copies of 50,000 wide vectors are what takes memory here.
    scaled = vectors.astype(np.float64)
    scaled -= scaled.mean(0)
    deviation = scaled.std(0)
    scaled /= np.where(deviation > 0, deviation, 1)
    components = 2 if method == "pca" else min(_UMAP_COMPONENTS, *scaled.shape)
    pca = PCA(
        components, copy=False, svd_solver="full" if min(scaled.shape) <= 512 else "randomized", random_state=seed
    )
    with np.errstate(invalid="ignore"):
        # Of constant vectors no share of the variance is defined.
        reduced = pca.fit_transform(scaled)
    if method == "pca":
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        return Projection(reduced, (f"PC1 ({shares[0]:.1%} of variance)", f"PC2 ({shares[1]:.1%} of variance)"))
    check_method(method)
    umap = importlib.import_module("umap")

    with warnings.catch_warnings():
        # It says that a seed costs parallelism, and what numba will change.
        warnings.simplefilter("ignore")
        neighbours = min(15, len(reduced) - 1)
        start = "spectral" if len(reduced) > 10 else "random"
        points = umap.UMAP(n_neighbors=neighbours, min_dist=0.1, init=start, random_state=seed).fit_transform(reduced)
    return Projection(np.asarray(points, np.float64), ("UMAP 1", "UMAP 2"))
