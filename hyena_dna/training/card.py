"""What a pretrained model's card says about where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyena_dna.model.card import ModelCard

__all__ = ["model_card"]


def model_card(record: Mapping[str, Any]) -> ModelCard:
    """The card of a finished run's model.

    Args:
        record: the content of `run.json`.
    """
    result, data = record["result"], record["data"]
    metrics = {
        "validation bits per base": round(result["val_bits_per_base"], 4),
        "validation perplexity": round(result["val_perplexity"], 4),
    }
    if "markov_bits_per_base" in result:
        order = result["markov_best_order"]
        name = f"best Markov model on the same windows (order {order}), bits per base"
        metrics[name] = round(result["markov_bits_per_base"][order], 4)
    for genome, found in result.get("genomes", {}).items():
        metrics[f"validation bits per base, {genome}"] = round(found["val_bits_per_base"], 4)
    return ModelCard(
        data=[source["path"].rsplit("/", 1)[-1] for source in record["inputs"]],
        steps=record["step"],
        tokens=record["tokens"],
        metrics=metrics,
        notes=[
            f"Trained on windows of {data['window']:,} bp from {data['train']['bases']:,} bp, seed {record['seed']}.",
            f"Held out: {data['rule']}.",
        ],
    )
