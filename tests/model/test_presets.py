"""The published models by name: wrong dimensions would load nothing, or the wrong thing."""

from __future__ import annotations

import pytest

from hyena_dna.errors import InputError
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.names import LM_HEAD
from hyena_dna.model.presets import PRESETS, PUBLISHED_NAMES, is_published_name, preset
from hyena_dna.model.tables import make_tables

# name: parameters, parameters with an LM head of its own, elements of the positional tables, as published.
COUNTS = {
    "hyenadna-tiny-1k-seqlen": (436_096, 438_144, 12_568),
    "hyenadna-tiny-1k-seqlen-d256": (1_641_088, 1_645_184, 12_824),
    "hyenadna-tiny-16k-seqlen-d128": (436_096, 438_144, 196_888),
    "hyenadna-small-32k-seqlen": (3_277_568, 3_281_664, 787_504),
    "hyenadna-medium-160k-seqlen": (6_550_528, 6_554_624, 7_682_144),
    "hyenadna-medium-450k-seqlen": (6_550_528, 6_554_624, 21_602_144),
    "hyenadna-large-1m-seqlen": (6_550_528, 6_554_624, 48_002_144),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    config = preset(name)
    untied = HyenaDNA(config.model_copy(update={"tie_embeddings": False}))
    sizes = {key: value.numel() for key, value in untied.named_parameters()}
    tied = sum(value.numel() for value in HyenaDNA(config).parameters())
    tables = sum(table.numel() for table in make_tables(config).values())
    assert (tied, sum(sizes.values()), tables) == COUNTS[name]
    assert sum(sizes.values()) - sizes[LM_HEAD] == tied


def test_every_preset_has_a_published_name() -> None:
    assert set(COUNTS) == set(PUBLISHED_NAMES)
    assert list(PUBLISHED_NAMES.values()) == list(PRESETS)


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_all_spellings_resolve(name: str) -> None:
    wanted = PRESETS[PUBLISHED_NAMES[name]]
    for spelling in (PUBLISHED_NAMES[name], name, f"{name}-hf", f"LongSafari/{name}", f"LongSafari/{name}-hf"):
        assert preset(spelling) is wanted
        assert is_published_name(spelling) == (spelling != PUBLISHED_NAMES[name])


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no preset 'hyenadna-tiny-1k'.*did you mean.*'hyenadna-tiny-1k-seqlen'"):
        preset("hyenadna-tiny-1k")
    with pytest.raises(InputError, match="one of tiny-1k, "):
        preset("zzz")
