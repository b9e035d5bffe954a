"""Embeddings against a loop over single records, whatever the tiling, the strand and the company in a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.embedding import Embedder, EmbeddingSpec, check_finite, embed_sequences
from hyena_dna.inference.inputs import Chunk, ChunkLimits, Row, sequence_chunks
from hyena_dna.inference.layers import Layers, hidden_states, parse_layers
from hyena_dna.inference.moments import directions
from hyena_dna.inference.pooling import parse_pool
from hyena_dna.inference.windows import tile
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import PAD, Tokenizer

WINDOW = 96
LENGTHS = (96, 1, 250, 40, 40, 97, 300, 12)

# Vectors are of order 1; a float32 pass over 300 bp rounds at about 1e-6.
CLOSE = 2e-5


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(3)
    model = HyenaDNA(HyenaConfig(d_model=16, n_layer=3, max_length=WINDOW + 2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def sequences(lengths: tuple[int, ...] = LENGTHS) -> list[tuple[Row, bytes]]:
    rng = np.random.default_rng(0)
    found = []
    for number, length in enumerate(lengths):
        bases = bytes(rng.choice(np.frombuffer(b"ACGT", np.uint8), length))
        found.append((Row(None, 0, length, f"s{number}", "."), bases))
    return found


def one_chunk(items: list[tuple[Row, bytes]]) -> Chunk:
    (chunk,) = sequence_chunks(items)
    return chunk


def per_base(model: HyenaDNA, sequence: bytes, layers: Layers, overlap: int = 0) -> NDArray[np.float64]:
    """Hidden state of every position, each tile on its own, each position from the first tile that has it."""
    ids = Tokenizer().encode(sequence)
    rows: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start, end in tile(len(ids), WINDOW, overlap):
            states = hidden_states(model, torch.from_numpy(ids[start:end])[None], None, layers)[0]
            rows += list(states.double().numpy()[len(rows) - start :])
    return np.stack(rows)


def oracle(
    model: HyenaDNA, sequence: bytes, layers: Layers, pool: str, strands: str, overlap: int
) -> NDArray[np.float64]:
    reverse = Tokenizer().decode(Tokenizer().reverse_complement(Tokenizer().encode(sequence))).encode()
    there = per_base(model, sequence, layers, overlap)
    back = per_base(model, reverse, layers, overlap)[::-1]
    name, _, size = pool.partition(":")
    count, length = int(size or 1), len(sequence)

    def pooled(states: NDArray[np.float64], last: int) -> NDArray[np.float64]:
        match name:
            case "mean":
                return np.atleast_2d(states.mean(0))
            case "max":
                return np.atleast_2d(states.max(0))
            case "mean+max":
                return np.concatenate([states.mean(0), states.max(0)])[None]
            case "mean+std":
                return np.concatenate([states.mean(0), states.std(0)])[None]
            case "moments":
                split = states.reshape(len(states), layers.count, -1)
                normal = (split - split.mean(-1, keepdims=True)) / np.sqrt(split.var(-1, keepdims=True) + 1e-5)
                along = normal.reshape(states.shape) @ directions(states.shape[1], count)
                covariances = np.cov(along.T, bias=True).reshape(count, count)[np.triu_indices(count)]
                return np.concatenate([states.mean(0), states.std(0), covariances])[None]
            case "last":
                return np.atleast_2d(states[last])
            case "center":
                first = length // 2 - count // 2
                return np.atleast_2d(states[max(0, first) : first + count].mean(0))
            case "bins":
                borders = [number * length // count for number in range(count + 1)]
                return np.stack([states[a:b].mean(0) for a, b in itertools.pairwise(borders)])
        return states

    forward, backward = pooled(there, -1), pooled(back, 0)
    match strands:
        case "fwd":
            found = forward
        case "mean":
            found = (forward + backward) / 2
        case _:
            found = np.concatenate([forward, backward], -1)
    return found if name == "none" else found.reshape(1, -1)


@pytest.mark.parametrize("overlap", [0, 30])
@pytest.mark.parametrize("strands", ["mean", "concat", "fwd"])
@pytest.mark.parametrize(
    "pool", ["mean", "max", "mean+max", "mean+std", "moments:5", "last", "center:25", "center:4", "none"]
)
def test_vectors_are_those_of_a_plain_loop(model: HyenaDNA, pool: str, strands: str, overlap: int) -> None:
    check(model, LENGTHS, pool, strands, overlap, Layers("last"))


@pytest.mark.parametrize("strands", ["concat", "fwd"])
@pytest.mark.parametrize("bins", [1, 3, 7, 12])
def test_bins_are_those_of_a_plain_loop(model: HyenaDNA, bins: int, strands: str) -> None:
    check(model, (96, 250, 40, 12, 301), f"bins:{bins}", strands, 20, Layers("last"))


@pytest.mark.parametrize("layers", ["1", "3,1", "mean:2"])
def test_layers_of_a_plain_loop(model: HyenaDNA, layers: str) -> None:
    check(model, LENGTHS, "mean", "concat", 10, parse_layers(layers, 3))
    check(model, LENGTHS, "moments:4", "mean", 10, parse_layers(layers, 3))


def check(model: HyenaDNA, lengths: tuple[int, ...], pool: str, strands: str, overlap: int, layers: Layers) -> None:
    items = sequences(lengths)
    spec = EmbeddingSpec(layers, parse_pool(pool), strands, overlap)  # type: ignore[arg-type]
    embedder = Embedder(model, spec)
    found = embedder.embed(one_chunk(items))
    expected = [oracle(model, sequence, layers, pool, strands, overlap) for _, sequence in items]
    assert found.counts.tolist() == [len(rows) for rows in expected]
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape[1] == embedder.width
    np.testing.assert_allclose(found.vectors, np.concatenate(expected), atol=CLOSE)


@pytest.mark.parametrize("pool", ["mean", "max", "mean+max", "moments:5", "last", "bins:4"])
def test_the_company_in_a_batch_changes_nothing(model: HyenaDNA, pool: str) -> None:
    items = sequences((96, 70, 33, 96, 5, 20))
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool(pool)))
    together = embedder.embed(one_chunk(items)).vectors
    for number, item in enumerate(items):
        np.testing.assert_allclose(embedder.embed(one_chunk([item])).vectors[0], together[number], atol=CLOSE)
    by_two = Embedder(model, embedder.spec, batch_size=2).embed(one_chunk(items)).vectors
    np.testing.assert_allclose(by_two, together, atol=CLOSE)


def test_padding_is_masked_where_a_naive_mean_is_not(model: HyenaDNA) -> None:
    short = sequences((20, 96))[0][1]
    ids = np.full((1, 96), PAD, np.uint8)
    ids[0, :20] = Tokenizer().encode(short)
    with torch.inference_mode():
        naive = model.hidden(torch.from_numpy(ids)).mean(1)[0].numpy()
    spec = EmbeddingSpec(Layers("last"), parse_pool("mean"), "fwd")
    found = Embedder(model, spec).embed(one_chunk(sequences((20, 96))))
    exact = per_base(model, short, Layers("last")).mean(0)
    assert np.abs(naive - exact).max() > 100 * CLOSE
    np.testing.assert_allclose(found.vectors[0], exact, atol=CLOSE)


def test_strand_mean_does_not_depend_on_the_strand(model: HyenaDNA) -> None:
    ((row, sequence),) = sequences((250,))
    reverse = Tokenizer().decode(Tokenizer().reverse_complement(Tokenizer().encode(sequence))).encode()
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean"), "mean", 16))
    there, back = (embedder.embed(one_chunk([(row, bases)])).vectors for bases in (sequence, reverse))
    np.testing.assert_allclose(there, back, atol=CLOSE)


def test_chunks_change_nothing(model: HyenaDNA) -> None:
    items = sequences()
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean")))
    whole = embedder.embed(one_chunk(items)).vectors
    parts = [embedder.embed(chunk).vectors for chunk in sequence_chunks(items, limits=ChunkLimits(3, 200))]
    assert len(parts) > 3
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=CLOSE)


def test_the_same_chunk_gives_the_same_bytes(model: HyenaDNA) -> None:
    # What resuming rests on.
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean")))
    first, again = (embedder.embed(one_chunk(sequences())).vectors for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_out_of_memory_halves_the_batch_and_loses_nothing(model: HyenaDNA, monkeypatch: pytest.MonkeyPatch) -> None:
    items = sequences((96, 96, 80, 300, 7))
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean")))
    expected = embedder.embed(one_chunk(items)).vectors
    hidden: Callable[..., torch.Tensor] = model.hidden

    def small(ids: torch.Tensor, *, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(ids, lengths=lengths)

    monkeypatch.setattr(model, "hidden", small)
    np.testing.assert_allclose(embedder.embed(one_chunk(items)).vectors, expected, atol=CLOSE)


def test_only_tiles_that_count_are_read(model: HyenaDNA) -> None:
    chunk = one_chunk(sequences((960,)))
    tokens = {
        pool: Embedder(model, EmbeddingSpec(Layers("last"), parse_pool(pool), "fwd")).tokens(chunk)
        for pool in ("mean", "last", "center:10")
    }
    assert tokens == {"mean": 960, "last": 96, "center:10": 2 * 96}


@pytest.mark.parametrize("text", ["0", "4", "first", "1,1", "mean:0", "mean:4", "-1", ""])
def test_layers_that_the_model_does_not_have(text: str) -> None:
    with pytest.raises(InputError, match="blocks 1 to 3"):
        parse_layers(text, 3)


def test_an_overlap_as_long_as_the_model_is_refused(model: HyenaDNA) -> None:
    with pytest.raises(InputError, match="overlap"):
        Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean"), overlap=WINDOW))


def test_a_model_that_gives_nan_is_reported_with_the_record(model: HyenaDNA) -> None:
    found = Embedder(model, EmbeddingSpec(Layers("last"), parse_pool("mean"))).embed(one_chunk(sequences()))
    check_finite(found)
    found.vectors[2, 5] = np.nan
    with pytest.raises(InputError, match="s2"):
        check_finite(found)


@pytest.mark.parametrize("strands", ["mean", "concat", "fwd"])
def test_sequences_of_a_user_are_embedded_as_records(model: HyenaDNA, strands: str) -> None:
    items = sequences()
    found = embed_sequences(model, [bases for _, bases in items], pool="max", strands=strands, layer="mean:2")  # type: ignore[arg-type]
    for (_, bases), vector in zip(items, found, strict=True):
        expected = oracle(model, bases, parse_layers("mean:2", 3), "max", strands, 0)
        np.testing.assert_allclose(vector, expected.reshape(-1), atol=CLOSE)
    every = embed_sequences(model, ["ACGT", b"acgtn"], pool="none", strands="fwd")
    assert [vectors.shape for vectors in every] == [(4, 16), (5, 16)]
    np.testing.assert_allclose(every[0], per_base(model, b"ACGT", parse_layers("last", 3)), atol=CLOSE)
    assert np.shape(embed_sequences(model, [])) == (0, 16)
    with pytest.raises(InputError, match="empty"):
        embed_sequences(model, ["ACGT", ""])


def test_a_model_says_how_it_is_embedded_unless_the_caller_does(model: HyenaDNA, tmp_path: Path) -> None:
    says = EmbeddingDefaults(layer="1,2", pool="mean+max", strands="concat")
    save_model(model, tmp_path / "says", embedding=says)
    save_model(load_model(tmp_path / "says"), tmp_path / "again")
    for name in ("says", "again"):
        loaded = load_model(tmp_path / name)
        assert loaded.embedding == says
        found = embed_sequences(loaded, ["ACGTTGCA"])
        expected = embed_sequences(model, ["ACGTTGCA"], layer="1,2", pool="mean+max", strands="concat")
        np.testing.assert_array_equal(found, expected)
        assert np.shape(found) == (1, 2 * 2 * 2 * 16)
        assert np.shape(embed_sequences(loaded, ["ACGTTGCA"], layer="last", pool="mean", strands="fwd")) == (1, 16)
