"""What a model is, as a table for people and a mapping for programs, and how two models differ."""

from __future__ import annotations

from typing import Any

from hyena_dna.model.checkpoint import LoadedModel, parameters_digest

__all__ = ["compare_weights", "describe_model"]


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Facts about a model in the order in which they are read.

    Lengths are in tokens (bp), sizes in bytes. Fields that are unknown are None.
    """
    model, config, card = loaded.model, loaded.model.config, loaded.card
    hyena = config.mixer == "hyena"
    form = "leading convolution" if config.leading_conv else "HyenaDNA form"
    facts: dict[str, Any] = {
        "weights": str(loaded.path),
        "kind": f"{loaded.kind}, {loaded.layout} layout",
        "bytes": loaded.path.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "context": config.max_length,
        "vocabulary": f"{config.vocab_size} tokens in {config.padded_vocab_size} rows",
        "layers": config.n_layer,
        "width": config.d_model,
        "mlp_width": config.d_inner,
        "mixer": f"Hyena, order {config.order} ({form})" if hyena else f"attention, {config.num_heads} heads",
    }
    if hyena:
        facts["filter"] = (
            f"{config.n_filters} per layer, network {config.filter_emb_dim}-{config.filter_order}, waves "
            f"{config.filter_waves}, decay {config.modulation_rates}, short filter {config.short_filter_length} bp"
        )
        facts["modulation_shift"] = config.modulation_shift
        facts["shift_stored"] = loaded.stored_shift
    facts |= {
        "lm_head": "tied to the embeddings" if config.tie_embeddings else "its own matrix",
        "training_data": card.data or None,
        "steps": card.steps,
        "tokens": card.tokens,
        "metrics": card.metrics or None,
        "licence": card.licence,
        "source": card.source,
        "notes": card.notes or None,
        **(card.model_extra or {}),
        **({"embedding": loaded.embedding.model_dump()} if loaded.embedding else {}),
        "checksums_verified": loaded.verified,
        "weights_sha256": parameters_digest(model),
    }
    if loaded.layout != "native":
        facts |= {"tables_verified": loaded.tables, "ignored": loaded.ignored or None}
    return facts


def compare_weights(one: LoadedModel, other: LoadedModel) -> dict[str, Any]:
    """How the weights of two models differ.

    Returns:
        `only_in_one`, `only_in_other`, `other_shape`, `different`: names of tensors; `equal`: their number;
        `largest_difference`: over all tensors of equal shape.
    """
    first, second = dict(one.model.named_parameters()), dict(other.model.named_parameters())
    both = [name for name in first if name in second]
    shaped = [name for name in both if first[name].shape == second[name].shape]
    gaps = {name: float((first[name] - second[name]).detach().abs().max()) for name in shaped}
    return {
        "only_in_one": sorted(set(first) - set(second)),
        "only_in_other": sorted(set(second) - set(first)),
        "other_shape": [name for name in both if name not in gaps],
        "different": [name for name, gap in gaps.items() if gap > 0],
        "equal": sum(gap == 0 for gap in gaps.values()),
        "largest_difference": max(gaps.values(), default=0.0),
    }
