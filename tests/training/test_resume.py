from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dna.errors import InputError
from hyena_dna.training.checkpoints import RunState
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.resume import adopt_resolved, check_same_config, check_same_data
from hyena_dna.training.run_folder import RunFolder

Maker = Callable[..., PretrainConfig]
FOLDER = RunFolder(Path("run"))


def test_settings_left_to_the_machine_keep_the_values_they_had(tiny: Maker) -> None:
    # Another number of passes adds in another order: the log would differ in the last digits.
    saved = tiny(optim={"accumulate": 4, "precision": "bf16"})
    now = adopt_resolved(tiny(optim={"accumulate": "auto", "precision": "auto"}), saved)
    assert (now.optim.accumulate, now.optim.precision) == (4, "bf16")
    check_same_config(now, saved, FOLDER)
    asked = adopt_resolved(tiny(optim={"accumulate": 2, "precision": "auto"}), saved)
    with pytest.raises(InputError, match=r"optim.accumulate = 4, not 2"):
        check_same_config(asked, saved, FOLDER)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("optim", "betas", (0.9, 0.95)), ("model", "embed_dropout", 0.0), ("data", "window", 32), ("trainer", "seed", 1)],
)
def test_a_changed_setting_is_named(tiny: Maker, section: str, key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{section}.{key}"):
        check_same_config(tiny(**{section: {key: value}}), tiny(), FOLDER)


def test_settings_that_no_number_depends_on_may_change(tiny: Maker) -> None:
    check_same_config(tiny(trainer={"workers": 3, "checkpoint_every": 1, "recompute": True}), tiny(), FOLDER)
    check_same_config(tiny(data={"genomes": ["elsewhere.fa"]}), tiny(), FOLDER)


@pytest.mark.parametrize("now", [{"sequence 1": "b"}, {}, {"sequence 1": "a", "sequence 2": "c"}])
def test_other_data_are_named(now: dict[str, str]) -> None:
    state = RunState(1, 1, 0.0, 0.0, {}, {"sequence 1": "a"}, {})
    check_same_data({"sequence 1": "a"}, state, FOLDER)
    with pytest.raises(InputError, match=r"sequence [12] is not what the run began with"):
        check_same_data(now, state, FOLDER)
