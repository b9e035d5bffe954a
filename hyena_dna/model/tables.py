"""The positional tables that published checkpoints store and this project recomputes.

Each mixer of a published file holds `z` (1, max_length, filter_emb_dim), `t` (1, max_length, 1) and `deltas`
(1, 1, n_filters * d_model): 192 of the 218 MB of large-1m, the same in every mixer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import decay_rates, positional_features

__all__ = ["check_tables", "make_tables"]

TOLERANCE = 2e-6
"""Largest difference allowed, as a share of the table's largest value: rounding of float32 arithmetic."""


def make_tables(config: HyenaConfig) -> dict[str, Tensor]:
    """The tables of every mixer, float32, by their standalone names; mixers share memory."""
    positions = torch.arange(config.max_length, dtype=torch.float32)
    z = positional_features(positions, config)[None]
    # The published sign is negative; only the magnitude is used.
    deltas = -decay_rates(config, dtype=torch.float32, device=positions.device)[None, None]
    one = {"pos_emb.z": z, "pos_emb.t": z[..., :1], "modulation.deltas": deltas}
    return {
        f"backbone.layers.{layer}.mixer.filter_fn.{name}": table
        for layer in range(config.n_layer)
        for name, table in one.items()
    }


def check_tables(tables: Mapping[str, Tensor], config: HyenaConfig) -> None:
    """Compare the tables of a file with what the architecture says they are.

    Raises:
        InputError: a table is unknown, has another shape, or differs by more than `TOLERANCE`.
    """
    expected = make_tables(config)
    for name, table in tables.items():
        if name not in expected:
            raise InputError(f"{name} is no table of this architecture")
        wanted = expected[name]
        if table.shape != wanted.shape:
            shapes = f"{tuple(table.shape)} and not {tuple(wanted.shape)}"
            raise InputError(f"{name} is {shapes}", remedy="is the maximal length in config.json that of the weights?")
        difference = float((table.float() - wanted).abs().max() / wanted.abs().max())
        if not difference <= TOLERANCE:
            raise InputError(
                f"{name} differs from its formula by {difference:.1e} of its largest value",
                remedy="the filters of this file were made by another formula; it cannot be converted",
            )
