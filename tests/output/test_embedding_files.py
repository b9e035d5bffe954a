"""Embedding files: every format holds the same, is read by its own library, and appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.output.embedding_files import check_suffix, write_embeddings
from hyena_dna.output.embedding_parts import COLUMNS, EmbeddingTable, write_part
from hyena_dna.output.parts import Parts

FACTS = {"model": "m", "sha256": "ab", "layer": "last", "overlap": 3, "version": "1"}
WIDTH = 5
PARTS = ((0, 3), (3, 4), (4, 9))

Columns = dict[str, list[Any]]


def columns() -> Columns:
    return {
        "chrom": ["chr1", None, "chr2", "chr1", "chr1", "chr2", None, "chrX", "chr1"],
        "start": [0, 5, 2**33, 3, 4, 5, 6, 7, 8],
        "end": [10, 6, 2**33 + 1, 13, 14, 15, 16, 17, 18],
        "name": ["a", "b", "\u00e9l\u00e9ment <1>", "d", "e", "f", "a longer name", "h", "i"],
        "strand": ["+", ".", "-", "+", "+", "-", ".", "+", "+"],
        "label": ["x", None, "y", "x", "z", None, "x", "y", "x"],
        "split": [None] * 9,
    }


def vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = Parts(folder)
    for index, (first, last) in enumerate(PARTS):
        here = {name: values[first:last] for name, values in columns().items()}
        write_part(parts, index, here, np.ones(last - first, np.int64), vectors()[first:last])
    return EmbeddingTable(parts, len(PARTS), WIDTH, pooled=True, facts=FACTS)


def read_parquet(path: Path) -> tuple[NDArray[np.float32], Columns, dict[str, Any]]:
    import pyarrow.parquet as pq

    found = pq.read_table(path)
    assert found.schema.field("embedding").type.list_size == WIDTH
    stacked = np.array(found["embedding"].to_pylist(), np.float32)
    facts = json.loads(found.schema.metadata[b"hyena_dna"])
    return stacked, {name: found[name].to_pylist() for name in COLUMNS}, facts


def read_npz(path: Path) -> tuple[NDArray[np.float32], Columns, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as found:
        kept = {name: [value or None for value in found[name].tolist()] for name in COLUMNS}
        for name in ("start", "end"):
            kept[name] = found[name].tolist()
        return found["embeddings"], kept, json.loads(str(found["facts"]))


def read_h5ad(path: Path) -> tuple[NDArray[np.float32], Columns, dict[str, Any]]:
    anndata = pytest.importorskip("anndata")
    found = anndata.read_h5ad(path)
    obs = found.obs
    kept = {name: [None if value != value else value for value in obs[name].tolist()] for name in COLUMNS}
    assert obs["label"].dtype == "category"
    assert obs["start"].dtype == np.int64
    return found.X, kept, {name: value.item() if hasattr(value, "item") else value for name, value in found.uns.items()}


def read_zarr(path: Path) -> tuple[NDArray[np.float32], Columns, dict[str, Any]]:
    zarr = pytest.importorskip("zarr")
    found = zarr.open_group(path, mode="r")
    kept = {name: [value or None for value in found[name][:].tolist()] for name in COLUMNS}
    for name in ("start", "end"):
        kept[name] = found[name][:].tolist()
    assert found["offsets"][:].tolist() == list(range(10))
    return found["embeddings"][:], kept, dict(found.attrs)


READERS: dict[str, Callable[[Path], tuple[NDArray[np.float32], Columns, dict[str, Any]]]] = {
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".h5ad": read_h5ad,
    ".zarr": read_zarr,
}


@pytest.mark.parametrize("suffix", READERS)
def test_what_was_written_is_read(table: EmbeddingTable, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_embeddings(table, path)
    found, known, facts = READERS[suffix](path)
    assert found.dtype == np.float32
    assert (found == vectors()).all()
    assert known == columns()
    assert facts == FACTS


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".h5ad"])
def test_the_same_embedding_gives_the_same_bytes(table: EmbeddingTable, tmp_path: Path, suffix: str) -> None:
    first, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (first, again):
        write_embeddings(table, path)
    assert first.read_bytes() == again.read_bytes()


def test_bases_of_records_of_any_length(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = Parts(folder)
    lengths = np.array([3, 1, 5])
    rows = np.arange(9 * 2, dtype=np.float32).reshape(9, 2)
    here = {name: values[:3] for name, values in columns().items()}
    write_part(parts, 0, here, lengths, rows)
    write_embeddings(EmbeddingTable(parts, 1, 2, pooled=False, facts=FACTS), tmp_path / "out.zarr")
    found = zarr.open_group(tmp_path / "out.zarr", mode="r")
    offsets = found["offsets"][:]
    assert offsets.tolist() == [0, 3, 4, 9]
    assert (found["embeddings"][offsets[2] : offsets[3]] == rows[4:]).all()


@pytest.mark.parametrize(("name", "pooled"), [("x.csv", True), ("x", True), ("x.h5ad", False), ("x.npz", False)])
def test_names_that_cannot_be_written_are_refused_before_any_work(name: str, pooled: bool) -> None:
    with pytest.raises(InputError):
        check_suffix(Path(name), pooled=pooled)


@pytest.mark.parametrize(("suffix", "extra"), [(".h5ad", "anndata"), (".zarr", "zarr")])
def test_a_missing_extra_gives_the_line_to_type(monkeypatch: pytest.MonkeyPatch, suffix: str, extra: str) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("hyena_dna.output.embedding_files.importlib.import_module", missing)
    with pytest.raises(InputError, match=rf"pip install 'hyena-dna\[{extra}\]'"):
        check_suffix(Path(f"x{suffix}"), pooled=True)


@pytest.mark.parametrize("suffix", READERS)
def test_a_failure_half_way_leaves_nothing(
    table: EmbeddingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    parts = iter(table)

    def failing(_: EmbeddingTable) -> Iterator[Any]:
        yield next(parts)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(EmbeddingTable, "__iter__", failing)
    with pytest.raises((InputError, OSError), match="No space left"):
        write_embeddings(table, tmp_path / f"out{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_a_choice_is_even_and_keeps_the_order(table: EmbeddingTable) -> None:
    chosen, known = table.load(4, seed=1)
    rows = [columns()["name"].index(name) for name in known["name"]]
    assert len(rows) == 4
    assert rows == sorted(rows)
    assert (chosen == vectors()[rows]).all()
