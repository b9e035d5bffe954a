"""Predictions of chunks are the classifier's on each window, whatever the batch, the contig's end or the strand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dna.datasets.labelled import cut_intervals
from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.regions import Region
from hyena_dna.inference.inputs import ChunkLimits, Row, region_chunks, sequence_chunks
from hyena_dna.inference.predict import Predictor
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA


def classifier(kind: str = "binary", labels: tuple[str, ...] = ("no", "yes"), **task: object) -> SequenceClassifier:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=130, filter_order=8))
    found = SequenceClassifier(model, TaskConfig.model_validate({"kind": kind, "labels": labels, **task})).eval()
    torch.nn.init.normal_(found.classifier.output.weight, std=1.0)
    return found


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    rng = np.random.default_rng(1)
    bases = "".join(rng.choice(list("ACGTacgt"), 600))
    (tmp_path / "g.fa").write_text(f">a\n{bases[:400]}\n>b\n{bases[400:460]}{'N' * 60}{bases[460:]}\n")
    return TokenStore.for_reference(Reference(tmp_path / "g.fa"))


@pytest.mark.parametrize("average", [True, False])
def test_regions_are_read_as_in_fine_tuning(store: TokenStore, average: bool) -> None:
    """Windows beyond the ends of contigs, on both strands, in batches of several sizes."""
    places = [Interval("a", start, start + 20, "-" if start % 3 else "+") for start in range(0, 380, 7)]
    network = classifier("multiclass", ("x", "y", "z"), window=64, average_strands=average, temperature=2.0)
    ids, lengths = cut_intervals(store, [place.resize(64) for place in places], stranded=True)
    assert (lengths == 64).all()
    with torch.inference_mode():
        logits = torch.cat([network.predict(torch.from_numpy(row[None])) for row in ids])
    expected = (logits / 2.0).softmax(-1).numpy()
    regions = [Region(place, str(place.start)) for place in places]
    for batch_size in (None, 1, 5):
        predictor = Predictor(network, window=64, batch_size=batch_size)
        chunks = list(region_chunks(store, regions, window=64, stranded=True, limits=ChunkLimits(records=17)))
        found = np.concatenate([predictor.predict(chunk).scores for chunk in chunks])
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 0.02


def test_sequences_of_any_length_are_padded_and_masked() -> None:
    rng = np.random.default_rng(2)
    network = classifier("multilabel", ("x", "y"))
    rows = [
        (Row(None, 0, size, str(size), "."), rng.choice(np.frombuffer(b"ACGT", np.uint8), size).tobytes())
        for size in (1, 17, 130, 64, 99)
    ]
    predictor = Predictor(network, window=None)
    (chunk,) = sequence_chunks(iter(rows))
    together = predictor.predict(chunk).scores
    alone = [predictor.predict(next(sequence_chunks(iter([row])))).scores[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.shape == (5, 2)


def test_records_of_n_have_no_prediction_and_edges_do_not_count(store: TokenStore) -> None:
    network = classifier(window=64)
    places = [Interval("b", 0, 2), Interval("b", 80, 100), Interval("b", 150, 160), Interval("b", 38, 50)]
    (chunk,) = region_chunks(store, [Region(place, "") for place in places], window=64)
    found = Predictor(network, window=64).predict(chunk).scores[:, 0]
    assert np.isfinite(found).tolist() == [True, False, True, False]
    everything = Predictor(network, window=64, most_n=1.0).predict(chunk).scores[:, 0]
    assert np.isfinite(everything).all()
    np.testing.assert_allclose(everything[[0, 2]], found[[0, 2]], atol=1e-6)


def test_what_the_model_cannot_read_is_refused(store: TokenStore) -> None:
    network = classifier()
    with pytest.raises(InputError, match="longer than the model reads"):
        Predictor(network, window=131)
    (chunk,) = region_chunks(store, [Region(Interval("a", 0, 131), "wide")])
    with pytest.raises(InputError, match="'wide' has 131 bp"):
        Predictor(network, window=None).predict(chunk)
    network.classifier.output.bias.data[:] = torch.nan
    (chunk,) = region_chunks(store, [Region(Interval("a", 0, 30), "bad")])
    with pytest.raises(InputError, match="no finite prediction of 'bad'"):
        Predictor(network, window=None).predict(chunk)
