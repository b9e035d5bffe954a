"""Runs: interrupted ones end as uninterrupted ones, memory does not grow with the input."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference.embed_run import embed_chunks
from hyena_dna.inference.embedding import Embedder, EmbeddingSpec
from hyena_dna.inference.inputs import Chunk, ChunkLimits, Row, sequence_chunks
from hyena_dna.inference.layers import Layers
from hyena_dna.inference.pooling import Pool
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.output.embedding_parts import EmbeddingTable
from hyena_dna.output.parts import Parts


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=66)).eval()
    return Embedder(model, EmbeddingSpec(Layers("last"), Pool("mean")))


def sequences(count: int) -> Iterator[tuple[Row, bytes]]:
    rng = np.random.default_rng(0)
    for number in range(count):
        bases = bytes(rng.choice(np.frombuffer(b"ACGT", np.uint8), 50))
        yield Row(None, 0, 50, f"s{number}", "."), bases


def chunks(count: int, size: int = 10) -> Iterator[Chunk]:
    return sequence_chunks(sequences(count), limits=ChunkLimits(size))


def table(parts: Parts, n_parts: int) -> EmbeddingTable:
    return EmbeddingTable(parts, n_parts, 8, pooled=True, facts={})


def test_parts_hold_what_was_embedded_in_order(embedder: Embedder, tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    totals = embed_chunks(embedder, chunks(35), parts)
    assert totals == (4, 35, 35 * 50, 35 * 50)
    vectors, columns = table(parts, totals.chunks).load(1000, 0)
    assert columns["name"] == [f"s{number}" for number in range(35)]
    expected = np.concatenate([embedder.embed(chunk).vectors for chunk in chunks(35)])
    assert vectors.tobytes() == expected.tobytes()


class Killed(BaseException):
    pass


def test_a_run_that_goes_on_computes_the_rest_alone_and_ends_with_the_same_bytes(
    embedder: Embedder, tmp_path: Path
) -> None:
    def dying() -> Iterator[Chunk]:
        for chunk in chunks(60):
            if chunk.index == 4:
                raise Killed
            yield chunk

    whole, broken = Parts(tmp_path / "whole"), Parts(tmp_path / "broken")
    for parts in (whole, broken):
        parts.folder.mkdir()
    embed_chunks(embedder, chunks(60), whole)
    with pytest.raises(Killed):
        embed_chunks(embedder, dying(), broken)
    done = sum(broken.done(index) for index in range(6))
    assert 0 < done < 6
    totals = embed_chunks(embedder, chunks(60), broken)
    assert totals.records == 60
    assert totals.computed == (6 - done) * 10 * 50
    assert [broken.checked(index).read_bytes() for index in range(6)] == [
        whole.checked(index).read_bytes() for index in range(6)
    ]


def test_only_a_few_chunks_are_alive_at_once(embedder: Embedder, tmp_path: Path) -> None:
    alive: weakref.WeakSet[Chunk] = weakref.WeakSet()
    most = 0

    def watched() -> Iterator[Chunk]:
        nonlocal most
        for chunk in chunks(400, 4):
            alive.add(chunk)
            most = max(most, len(alive))
            yield chunk

    embed_chunks(embedder, watched(), Parts(tmp_path))
    # Cut ahead, on the device, waiting for the writer, being written: never the hundred that there are.
    assert most <= 9


def test_no_records_is_bad_input(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records"):
        embed_chunks(embedder, iter(()), Parts(tmp_path))


def test_bad_input_in_a_later_chunk_ends_the_run(embedder: Embedder, tmp_path: Path) -> None:
    def items() -> Iterator[tuple[Row, bytes]]:
        yield from sequences(30)
        yield Row(None, 0, 4, "bad", "."), b"AC-T"

    with pytest.raises(InputError, match="position 3"):
        embed_chunks(embedder, sequence_chunks(items(), limits=ChunkLimits(10)), Parts(tmp_path))
