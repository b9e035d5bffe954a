"""Influence maps against a Jacobian by autograd and against finite differences; receptive fields by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference import influence as influence_module
from hyena_dna.inference.influence import Influence, even_rows, influence_map
from hyena_dna.inference.receptive_field import by_distance, receptive_field
from hyena_dna.model.model import HyenaDNA


def definition(model: HyenaDNA, ids: np.ndarray) -> np.ndarray:
    """The Jacobian of all logits by all one-hot letters, at once."""
    table = model.backbone.embeddings.word_embeddings.weight.detach()
    start = model.backbone.embeddings(torch.from_numpy(ids)[None]).detach()

    def logits(change: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model(inputs_embeds=start + (change @ table[7:11])[None]).logits[0, :, 7:11]
        return out

    zero = torch.zeros(len(ids), 4, dtype=table.dtype)
    jacobian = torch.autograd.functional.jacobian(logits, zero)  # type: ignore[no-untyped-call]
    jacobian = jacobian - jacobian.mean(1, keepdim=True)
    jacobian = jacobian - jacobian.mean(-1, keepdim=True)
    following = np.append(ids[1:] - 7, int(logits(zero)[-1].argmax()))
    picked = jacobian[torch.arange(len(ids)), torch.from_numpy(following.astype(np.int64))]
    result: np.ndarray = picked.norm(dim=-1).numpy()
    return result


@pytest.mark.parametrize(
    "changes", [{}, {"order": 3}, {"leading_conv": True, "order": 1}, {"mixer": "attention"}], ids=str
)
def test_equals_the_jacobian(changes: dict[str, object], make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(64, n_layer=1, **changes).double()
    ids = np.random.default_rng(0).integers(7, 11, 9).astype(np.uint8)
    found = influence_map(model, ids)
    np.testing.assert_allclose(found.map, definition(model, ids), rtol=1e-5, atol=1e-7)
    assert (np.triu(found.map, 1) == 0).all()
    assert (np.diag(found.map) > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_and_rows_change_nothing(make_model: Callable[..., HyenaDNA], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(64, n_layer=1)
    ids = np.random.default_rng(0).integers(7, 12, 24).astype(np.uint8)
    whole = influence_map(model, ids)
    monkeypatch.setattr(influence_module, "batch_tokens", lambda *_: 60)
    done: list[int] = []
    np.testing.assert_allclose(influence_map(model, ids, progress=done.append).map, whole.map, rtol=1e-3, atol=1e-6)
    assert len(done) > 6
    assert done[-1] == 24
    some = influence_map(model, ids, [23, 3])
    assert some.rows.tolist() == [3, 23]
    np.testing.assert_allclose(some.map, whole.map[[3, 23]], rtol=1e-3, atol=1e-6)


def test_rows_are_spread_evenly() -> None:
    assert even_rows(10, 100).tolist() == list(range(10))
    assert even_rows(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert even_rows(1, 4).tolist() == [0]


def test_refusals(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(16)
    ids = np.full(17, 7, np.uint8)
    for sequence, rows, message in [(ids, None, "17 bp"), (ids[:0], None, "0 bp"), (ids[:5], [5], "rows lie in")]:
        with pytest.raises(InputError, match=message):
            influence_map(model, sequence, rows)


def test_the_receptive_field_of_a_map_made_by_hand() -> None:
    found = np.array([[1, 0, 0], [2, 3, 0], [0, 4, 5]], np.float32)
    rows = np.arange(3)
    np.testing.assert_array_equal(by_distance(rows, found), [[1, np.nan, np.nan], [3, 2, np.nan], [5, 4, 0]])
    field = receptive_field(Influence(rows, found))
    np.testing.assert_allclose(field.mean, [3, 3, 0])
    np.testing.assert_allclose(field.share, [0.5, 1, 1])
    assert (field.distance(0.4), field.distance(0.9)) == (0, 1)
    # Rows that do not begin at the start leave far distances without a value.
    half = receptive_field(Influence(rows[:2], found[:2]))
    assert np.isnan(half.mean[2])
    with pytest.raises(InputError, match="zero everywhere"):
        receptive_field(Influence(rows, np.zeros((3, 3), np.float32)))
