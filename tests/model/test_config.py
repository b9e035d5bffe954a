from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hyena_dna.model.config import HyenaConfig

SMALL: dict[str, Any] = {"d_model": 8, "n_layer": 2, "max_length": 64}


def test_defaults_are_those_of_the_published_models() -> None:
    config = HyenaConfig(**SMALL)
    assert config.d_inner == 32
    assert config.padded_vocab_size == 16
    assert (config.order, config.n_filters, config.leading_conv) == (2, 1, False)
    assert config.modulation_shift == 0.05


def test_a_leading_convolution_has_one_filter_more() -> None:
    assert HyenaConfig(**SMALL, order=3).n_filters == 2
    assert HyenaConfig(**SMALL, order=3, leading_conv=True).n_filters == 3


def test_survives_json() -> None:
    config = HyenaConfig(**SMALL, order=3, d_inner=20)
    assert HyenaConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 1}, "order must be at least 2"),
        ({"filter_emb_dim": 4}, "must be odd"),
        ({"mixer": "attention", "num_heads": 3}, "num_heads"),
        ({"mixer": "attention", "num_heads": 8}, "even head width"),
        ({"d_modle": 8}, "Extra inputs"),
        ({"embed_dropout": 1.0}, "less than 1"),
        ({"mixer": "mamba"}, "'hyena' or 'attention'"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HyenaConfig(**(SMALL | change))


def test_order_one_exists_with_a_leading_convolution() -> None:
    assert HyenaConfig(**SMALL, order=1, leading_conv=True).n_filters == 1
