"""Embedding files of every format, written part by part: memory does not grow with the number of records."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError, missing_extra
from hyena_dna.files import atomic_directory, atomic_path
from hyena_dna.output.embedding_parts import COLUMNS, TEXT_COLUMNS, EmbeddingTable
from hyena_dna.output.npz import open_npz

__all__ = ["SUFFIXES", "check_suffix", "write_embeddings"]

SUFFIXES = (".h5ad", ".parquet", ".npz", ".zarr")


def check_suffix(path: Path, *, pooled: bool) -> None:
    """Check, before any work, that an embedding can be written to a file of this name here.

    Raises:
        InputError: the suffix is none of `SUFFIXES`, what writes it is not installed, or it cannot hold one vector
            per base.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"an embedding is written as one of {', '.join(SUFFIXES)}, not {path.suffix or 'without suffix'}", file=path
        )
    if not pooled and path.suffix != ".zarr":
        raise InputError("--pool none gives a vector per base, which only .zarr holds", file=path)
    for suffix, module, extra in ((".h5ad", "h5py", "anndata"), (".zarr", "zarr", "zarr")):
        if path.suffix == suffix:
            _import(module, f"{suffix} output", extra)


def write_embeddings(table: EmbeddingTable, path: Path, *, force: bool = False) -> None:
    """Write a table in the format of the suffix; the file or folder appears whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    check_suffix(path, pooled=table.pooled)
    if path.suffix == ".zarr":
        with atomic_directory(path, force=force) as folder:
            _write_zarr(table, folder)
        return
    writers: dict[str, Callable[[EmbeddingTable, Path], None]] = {
        ".h5ad": _write_h5ad, ".parquet": _write_parquet, ".npz": _write_npz,
    }  # fmt: skip
    with atomic_path(path) as temporary:
        try:
            writers[path.suffix](table, temporary)
        except (OSError, RuntimeError) as error:
            # Libraries that write through C report a full disk in words of their own and without its number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"cannot be written: {str(error).splitlines()[0]}", file=path) from error


def _import(module: str, feature: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(feature, extra) from None


def _write_parquet(table: EmbeddingTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [pa.string() if name in TEXT_COLUMNS else pa.int64() for name in COLUMNS]
    fields = [pa.field(name, kind) for name, kind in zip(COLUMNS, types, strict=True)]
    vector = pa.list_(pa.float32(), table.width)
    # Floating-point noise does not compress, text does.
    options: dict[str, Any] = {
        "compression": {**dict.fromkeys(COLUMNS, "zstd"), "embedding.list.element": "none"},
        "use_dictionary": [name for name in TEXT_COLUMNS if name != "name"],
        "write_statistics": list(COLUMNS),
    }
    schema = pa.schema([*fields, pa.field("embedding", vector)], {"hyena_dna": json.dumps(table.facts)})
    with pq.ParquetWriter(path, schema, **options) as writer:
        for part in table:
            flat = pa.array(np.ascontiguousarray(part.vectors).reshape(-1))
            arrays = [pa.array(part.columns[name], kind) for name, kind in zip(COLUMNS, types, strict=True)]
            writer.write_table(pa.table([*arrays, pa.FixedSizeListArray.from_arrays(flat, type=vector)], schema=schema))


def _write_npz(table: EmbeddingTable, path: Path) -> None:
    widths = dict.fromkeys(TEXT_COLUMNS, 1)
    for columns in table.columns():
        for name in TEXT_COLUMNS:
            widths[name] = max(widths[name], max((len(value or "") for value in columns[name]), default=1))
    with open_npz(path) as write:
        write("embeddings", "<f4", (table.records, table.width), (part.vectors for part in table))
        for name in COLUMNS:
            dtype = f"<U{widths[name]}" if name in TEXT_COLUMNS else "<i8"

            def pieces(name: str = name, dtype: str = dtype) -> Iterator[NDArray[Any]]:
                for columns in table.columns():
                    values = [value or "" for value in columns[name]] if name in TEXT_COLUMNS else columns[name]
                    yield np.array(values, dtype)

            write(name, dtype, (table.records,), pieces())
        facts = json.dumps(table.facts)
        write("facts", f"<U{len(facts)}", (), iter([np.array(facts)]))


def _write_h5ad(table: EmbeddingTable, path: Path) -> None:
    """AnnData's on-disk format, version 0.1.0 of the file and 0.2.0 of its arrays and data frames."""
    h5py = _import("h5py", ".h5ad output", "anndata")
    text = h5py.string_dtype()

    def encode(item: Any, kind: str, version: str) -> Any:
        item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
        return item

    with h5py.File(path, "w") as file:
        encode(file, "anndata", "0.1.0")
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            encode(file.create_group(name), "dict", "0.1.0")
        x = encode(file.create_dataset("X", (table.records, table.width), "<f4"), "array", "0.2.0")
        obs = encode(file.create_group("obs"), "dataframe", "0.2.0")
        obs.attrs["_index"] = "_index"
        obs.attrs.create("column-order", list(COLUMNS), dtype=text)
        columns = {name: encode(obs.create_dataset(name, (table.records,), "<i8"), "array", "0.2.0")
                   for name in ("start", "end")}  # fmt: skip
        for name in ("_index", "name"):
            columns[name] = encode(obs.create_dataset(name, (table.records,), text), "string-array", "0.2.0")
        known: dict[str, dict[str, int]] = {name: {} for name in ("chrom", "strand", "label", "split")}
        for name in known:
            group = encode(obs.create_group(name), "categorical", "0.2.0")
            group.attrs["ordered"] = False
            columns[name] = encode(group.create_dataset("codes", (table.records,), "<i4"), "array", "0.2.0")
        first = 0
        for part in table:
            last = first + len(part.counts)
            x[first:last] = part.vectors
            columns["_index"][first:last] = [str(number) for number in range(first, last)]
            for name in ("start", "end", "name"):
                columns[name][first:last] = part.columns[name]
            for name, categories in known.items():
                columns[name][first:last] = [
                    -1 if value is None else categories.setdefault(value, len(categories))
                    for value in part.columns[name]
                ]
            first = last
        for name, categories in known.items():
            values = obs[name].create_dataset("categories", data=np.array(list(categories), object), dtype=text)
            encode(values, "string-array", "0.2.0")
        var = encode(file.create_group("var"), "dataframe", "0.2.0")
        var.attrs["_index"] = "_index"
        var.attrs.create("column-order", np.array([], object), dtype=text)
        names = np.array([str(number) for number in range(table.width)], object)
        encode(var.create_dataset("_index", data=names, dtype=text), "string-array", "0.2.0")
        uns = encode(file.create_group("uns"), "dict", "0.1.0")
        for name, value in table.facts.items():
            is_text = isinstance(value, str)
            item = uns.create_dataset(name, data=value, **({"dtype": text} if is_text else {}))
            encode(item, "string" if is_text else "numeric-scalar", "0.2.0")


def _write_zarr(table: EmbeddingTable, folder: Path) -> None:
    """`embeddings` (vectors, width), `offsets` (records + 1,) that say which vectors a record has, and the columns."""
    zarr = _import("zarr", ".zarr output", "zarr")
    root = zarr.open_group(folder, mode="w", zarr_format=3)
    root.attrs.update(table.facts)
    rows = max(1, (4 << 20) // (4 * table.width))
    embeddings = root.create_array(
        "embeddings", shape=(table.vectors, table.width), chunks=(rows, table.width), dtype="float32", compressors=None
    )
    arrays = {
        name: root.create_array(name, shape=(table.records,), chunks=(1 << 16,), dtype=_zarr_type(name))
        for name in COLUMNS
    }
    offsets = root.create_array("offsets", shape=(table.records + 1,), chunks=(1 << 16,), dtype="int64")
    first = vectors = 0
    for part in table:
        last = first + len(part.counts)
        embeddings[vectors : vectors + len(part.vectors)] = part.vectors
        offsets[first + 1 : last + 1] = vectors + np.cumsum(part.counts)
        for name, array in arrays.items():
            if name in TEXT_COLUMNS:
                array[first:last] = np.array([value or "" for value in part.columns[name]], np.dtypes.StringDType())
            else:
                array[first:last] = np.array(part.columns[name], np.int64)
        first, vectors = last, vectors + len(part.vectors)


def _zarr_type(name: str) -> str:
    return "string" if name in TEXT_COLUMNS else "int64"
