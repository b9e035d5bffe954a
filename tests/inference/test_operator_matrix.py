"""Materialised matrices against the model's own operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hyena_dna.errors import InputError, RunError
from hyena_dna.inference import operator_matrix
from hyena_dna.inference.operator_matrix import MixerView, filters_and_windows, view_mixer
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator

FORMS = [(False, 2), (False, 3), (False, 4), (True, 1), (True, 2), (True, 3)]


def random_ids(length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(7, 12, length).astype(np.uint8)


@pytest.mark.parametrize("length", [1, 2, 50])
@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_matrix_times_values_is_the_operators_output(
    leading_conv: bool, order: int, length: int, make_model: Callable[..., HyenaDNA]
) -> None:
    model = make_model(64, order=order, leading_conv=leading_conv).double()
    view = view_mixer(model, random_ids(length), 2)
    mixer = view.mixer
    products = np.stack([(one := view.matrix(c)).matrix @ one.values for c in range(16)])
    assert all(view.matrix(channel).error < 1e-10 for channel in (0, 15))
    # All channels together, through the output projection, are what the mixer gives.
    with torch.inference_mode():
        torch.testing.assert_close(
            mixer.out_proj(torch.from_numpy(products.T)[None]), mixer(view.u), rtol=1e-9, atol=1e-10
        )
    assert (np.triu(view.matrix(3).matrix, 1) == 0).all()


def test_float32_meets_the_tolerance_and_a_wrong_matrix_is_refused(
    make_model: Callable[..., HyenaDNA], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = view_mixer(make_model(600), random_ids(512), 1)
    assert view.matrix(5).error < 1e-5
    real = vars(operator_matrix)["_toeplitz"]
    # Without the skip term the diagonal is wrong.
    monkeypatch.setattr(operator_matrix, "_toeplitz", lambda kernel, skip: real(kernel, 0.0))
    with pytest.raises(RunError, match="differs from the model's output"):
        view.matrix(5)


def test_attention(make_model: Callable[..., HyenaDNA]) -> None:
    view = view_mixer(make_model(64, mixer="attention"), random_ids(40), 3)
    one = view.matrix(2)
    assert view.matrices == 4
    assert one.error < 1e-5
    np.testing.assert_allclose(one.matrix.sum(1), 1)
    np.testing.assert_allclose(view.mean_share([2]), one.matrix, atol=1e-12)
    assert sorted(view.strongest(9)) == [0, 1, 2, 3]


def test_the_strongest_channel_adds_most(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(64)
    view = view_mixer(model, random_ids(40), 1)
    weight = view.mixer.out_proj.weight.detach().numpy()
    added = [np.linalg.norm(np.outer(view.outputs[c], weight[:, c])) for c in range(16)]
    assert view.strongest(16) == np.argsort(added)[::-1].tolist()


def test_shares_of_absolute_weights(make_model: Callable[..., HyenaDNA]) -> None:
    view = view_mixer(make_model(64), random_ids(30), 1)
    share = view.mean_share([1, 4])
    np.testing.assert_allclose(share.sum(1), 1)
    one = np.abs(view.matrix(1).matrix)
    np.testing.assert_allclose(view.mean_share([1]), one / one.sum(1, keepdims=True))


def test_filters_are_network_times_window(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(64, order=3)
    mixer = model.backbone.layers[0].mixer
    assert isinstance(mixer, HyenaOperator)
    filters, windows = filters_and_windows(mixer, 50)
    assert filters.shape == windows.shape == (2, 16, 50)
    np.testing.assert_allclose(windows[..., 0], 1 + model.config.modulation_shift, rtol=1e-6)
    # Of two windows, the faster one ends lower; and what the filters were made with is what is shown.
    assert windows[-1, -1, -1] < windows[0, 0, -1]
    network = filters / windows
    wider, _ = filters_and_windows(mixer, 64)
    np.testing.assert_allclose(network * windows, wider[..., :50], rtol=1e-4, atol=1e-6)


def test_refusals(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(5000, n_layer=1)
    for ids, layer, message in [
        (random_ids(10), 0, "blocks 1 to 1"),
        (random_ids(10), 2, "blocks 1 to 1"),
        (random_ids(4097), 1, "4,097 bp are too many"),
        (random_ids(0), 1, "empty"),
    ]:
        with pytest.raises(InputError, match=message):
            view_mixer(model, ids, layer)
    view: MixerView = view_mixer(model, random_ids(10), 1)
    for channel in (-1, 16):
        with pytest.raises(InputError, match="channels 0 to 15"):
            view.matrix(channel)
