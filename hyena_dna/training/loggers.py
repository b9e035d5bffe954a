"""A second log beside the CSV files, for people who watch runs elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from hyena_dna.errors import missing_extra

__all__ = ["open_logger"]


def open_logger(
    kind: Literal["csv", "tensorboard", "wandb"], folder: Path, name: str, config: Mapping[str, Any]
) -> Logger | None:
    """Open the logger that a configuration names; `csv` is always written and needs none.

    Weights & Biases goes by its own environment variables: `WANDB_MODE=offline` keeps it off the network.

    Raises:
        InputError: the package that it needs is not installed.
    """
    if kind == "csv":
        return None
    try:
        logger: Logger
        if kind == "tensorboard":
            logger = TensorBoardLogger(folder, name="tensorboard", version="")
        else:
            logger = WandbLogger(name=name, save_dir=folder, project="hyena-dna", config=dict(config))
        # Loggers open what they need on first use; a missing package should show before hours of training.
        _ = logger.experiment
    except ModuleNotFoundError:
        raise missing_extra(f"trainer.logger {kind}", kind) from None
    return logger
