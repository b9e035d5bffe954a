"""Fine-tuned models on GUE sets and worm elements, beside the baselines of the same runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena_dna.config import find_config, load_yaml
from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import load_model, parameters_digest
from hyena_dna.reproduction.probes import GUE_SETS, gue_files, worm_files
from hyena_dna.reproduction.table import Table
from hyena_dna.training.finetune import FinetuneOutcome, finetune
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_prepare import FinetuneOptions
from hyena_dna.training.run_folder import RunFolder
from hyena_dna.training.run_record import read_record

__all__ = ["FINETUNED_SETS", "FinetunedSet", "finetuned_sets", "finetuned_table", "run_set"]

_log = logging.getLogger("hyena_dna")

_WORM_SETS = ("ce10-element-512", "ce10-element-2k", "ce10-promoter-512", "ce10-promoter-2k")

FINETUNED_SETS = (*GUE_SETS, *_WORM_SETS)
"""Names of all sets; a worm set is called after its configuration."""

_METRICS = ("mcc", "auroc")


@dataclass(frozen=True)
class FinetunedSet:
    """A set to fine-tune on.

    Attributes:
        name: one of `FINETUNED_SETS`.
        config: the shipped configuration, with the files of the set.
    """

    name: str
    config: FinetuneConfig


def finetuned_sets(folder: str, names: Sequence[str] = ()) -> list[FinetunedSet]:
    """Sets of a data folder; all by default.

    Raises:
        InputError: a name is unknown, or a file is not there.
    """
    found = []
    for name in names or FINETUNED_SETS:
        if name not in FINETUNED_SETS:
            raise InputError(f"there is no set {name!r} to fine-tune on", remedy=f"one of {', '.join(FINETUNED_SETS)}")
        files = gue_files(folder, name) if name in GUE_SETS else worm_files(folder)
        config = load_yaml(find_config("gue" if name in GUE_SETS else name, "finetune"), FinetuneConfig)
        places = {part: os.path.abspath(path) for part, path in files.items()}
        found.append(FinetunedSet(name, config.model_copy(update={"data": config.data.model_copy(update=places)})))
    return found


def run_set(chosen: FinetunedSet, folder: Path, *, model: str, device: str, quiet: bool) -> FinetuneOutcome:
    """Fine-tune on a set, go on with a run that was interrupted, or take one that is finished as it is.

    Args:
        chosen: the set.
        folder: holds a run folder for each set.
        model: what to fine-tune.
        device: auto, cpu, cuda or cuda:INDEX.
        quiet: no progress.

    Raises:
        InputError: as `finetune`; or the finished run had another model or other settings.
        RunError: as `finetune`.
    """
    run = RunFolder(folder / chosen.name)
    record = read_record(run.record) if run.record.is_file() else {}
    if record.get("status") == "finished":
        _check_same(record, chosen, model, run.path)
        _log.info("%s: finished already", run.path)
        return FinetuneOutcome(run.path, 0, record)
    run.path.parent.mkdir(parents=True, exist_ok=True)
    return finetune(chosen.config, run.path, FinetuneOptions(chosen.name, model, device, resume=True, quiet=quiet))


def _check_same(record: Mapping[str, Any], chosen: FinetunedSet, model: str, path: Path) -> None:
    remedy = "give another folder with -o"
    if record["fingerprints"]["model"] != parameters_digest(load_model(model)):
        raise InputError("was fine-tuned from another model", file=path, remedy=remedy)
    before = FinetuneConfig.model_validate(record["config"])
    # The run knows its arithmetic, which the configuration leaves to the device; where files lie plays no part.
    optim = before.optim.model_copy(update={"precision": chosen.config.optim.precision})
    places = {part: getattr(chosen.config.data, part) for part in ("genome", "regions", "train", "dev", "test")}
    data = before.data.model_copy(update=places)
    if before.model_copy(update={"optim": optim, "data": data}) != chosen.config:
        raise InputError("was fine-tuned with other settings", file=path, remedy=remedy)


def finetuned_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Test MCC and AUROC with 95 % bootstrap intervals, of the models and of the baselines of the same runs.

    Args:
        records: content of `run.json` of each finished run, by set.
    """
    rivals = list(dict.fromkeys(name for record in records.values() for name in record["result"]["baselines"]))
    columns = (
        "set",
        "test rows",
        *(f"{who}, {metric.upper()}" for who in ("fine-tuned", *rivals) for metric in _METRICS),
    )
    table = Table("Fine-tuned, test splits", columns)
    for name, record in records.items():
        result = record["result"]
        assert result["evaluated_on"] == "test", "every set has a test split"
        cells: list[str] = []
        for who, metrics in {"fine-tuned": result["metrics"], **result["baselines"]}.items():
            for metric in _METRICS:
                found = metrics[metric]
                cells.append(f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
                table.numbers[f"{name}, {who}, {metric.upper()}"] = found["value"]
        table.rows.append((name, f"{sum(record['counts']['test'].values()):,}", *cells))
    return table
