"""What `VariantScorer` promises beyond agreement of its methods: its definitions, its refusals, its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hyena_dna.datasets.alleles import StrandWindow
from hyena_dna.errors import InputError
from hyena_dna.inference.variant_scorer import VariantScorer
from hyena_dna.model.model import HyenaDNA

MakeModel = Callable[..., HyenaDNA]
Windows = Callable[..., list[StrandWindow]]


@pytest.mark.parametrize("span", [30, 4096])
def test_scores_are_what_the_formulas_say(make_model: MakeModel, random_windows: Windows, span: int) -> None:
    model = make_model(130).double()
    windows = random_windows(0, 128, 25, low=0, high=120)
    scores = VariantScorer(model, span=span).score(windows)
    for index, window in enumerate(windows):
        changed, n_ref, n_alt = window.changed, window.n_ref, window.n_alt
        stop = min(changed + span, 128)
        tokens, hidden = [], []
        for ids in (window.ref_ids, window.alt_ids):
            with torch.inference_mode():
                out = model(torch.from_numpy(ids.copy())[None].long())
            table = out.logits[0, :, :12].log_softmax(-1)
            tokens.append({i: float(table[i - 1, ids[i]]) for i in range(max(1, changed), stop)})
            hidden.append(out.hidden[0, changed:stop].mean(0))
        llr = sum(tokens[1].values()) - sum(tokens[0].values())
        assert scores.llr[index] == pytest.approx(llr, abs=1e-10)
        assert scores.dist[index] == pytest.approx(float((hidden[1] - hidden[0]).norm()), abs=1e-10)
        shared = stop - changed - max(n_ref, n_alt)
        kept = [
            [value for i, value in of.items() if i < changed + n + shared]
            for of, n in zip(tokens, (n_ref, n_alt), strict=True)
        ]
        if shared < 0 or not kept[0] or not kept[1]:
            assert np.isnan(scores.llr_norm[index])
        else:
            expected = sum(kept[1]) / len(kept[1]) - sum(kept[0]) / len(kept[0])
            assert scores.llr_norm[index] == pytest.approx(expected, abs=1e-10)


def test_norm_is_missing_where_an_allele_has_no_scored_base(make_model: MakeModel) -> None:
    ref = np.full(64, 7, np.uint8)
    alt = ref.copy()
    alt[62:] = 8
    insertion = StrandWindow(("chr1", 0, "+"), ref, alt, 62, 0, 2)
    scores = VariantScorer(make_model(66)).score([insertion])
    assert np.isnan(scores.llr_norm[0])
    assert np.isfinite(scores.llr[0])


def test_attention_takes_two_passes_and_says_so(
    make_model: MakeModel, random_windows: Windows, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(130, mixer="attention").double()
    with caplog.at_level(logging.INFO, logger="hyena_dna"):
        scorer = VariantScorer(model)
    assert "two whole passes" in caplog.text
    windows = random_windows(1, 128, 6)
    np.testing.assert_array_equal(scorer.score(windows).llr, VariantScorer(model, method="two_pass").score(windows).llr)


def test_two_passes_asked_for_are_no_news(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hyena_dna"):
        VariantScorer(make_model(130, mixer="attention"), method="two_pass")
    assert not caplog.records


def test_nothing_to_score(make_model: MakeModel) -> None:
    assert [column.shape for column in VariantScorer(make_model()).score([])] == [(0,)] * 3


def test_refusals(make_model: MakeModel, random_windows: Windows) -> None:
    model = make_model(130)
    with pytest.raises(InputError, match="training mode"):
        VariantScorer(make_model(130).train())
    with pytest.raises(InputError, match="float32 weights"):
        VariantScorer(make_model(130).bfloat16())
    with pytest.raises(InputError, match="at least 1"):
        VariantScorer(model, span=0)
    with pytest.raises(InputError, match="at least 1"):
        VariantScorer(model, batch_size=0)
    with pytest.raises(InputError, match="delta or two_pass"):
        VariantScorer(model, method="fast")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one length"):
        VariantScorer(model).score([*random_windows(1, 64, 1), *random_windows(1, 100, 1)])
    with pytest.raises(InputError, match="at most 130"):
        VariantScorer(model).score(random_windows(1, 200, 1))
