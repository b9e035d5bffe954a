"""Initial weights, all in one place."""

from __future__ import annotations

import math

import torch
from torch import nn

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter, Sine

__all__ = ["init_weights"]


@torch.no_grad()
def init_weights(model: nn.Module, config: HyenaConfig, *, generator: torch.Generator | None = None) -> None:
    """Set every parameter of a model to its initial value, as HyenaDNA was published.

    =======================================  ==================================================================
    parameter                                initial value
    =======================================  ==================================================================
    embeddings, linear weights, LM head      normal, standard deviation `initializer_range` (also in the filters)
    mixer.out_proj.weight, mlp.fc2.weight    normal, `initializer_range` / sqrt(2 n_layer): two branches a block
    linear biases                            0
    short_filter.weight and .bias            uniform within +-1 / sqrt(taps)
    filter_fn.bias (skip weights)            normal, standard deviation 1
    filter sine freq                         `filter_freq`
    norm weights and biases                  1 and 0
    =======================================  ==================================================================

    Args:
        model: the model, or any part of it.
        config: its configuration.
        generator: source of randomness; the global one by default.

    Raises:
        TypeError: a module holds parameters that the table does not name.
    """
    std = config.initializer_range
    for name, module in model.named_modules():
        match module:
            case nn.Linear() | nn.Embedding():
                last_of_branch = name.endswith(("mixer.out_proj", "mlp.fc2"))
                scaled = std / math.sqrt(2 * config.n_layer) if last_of_branch else std
                nn.init.normal_(module.weight, std=scaled, generator=generator)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            case nn.Conv1d():
                bound = 1 / math.sqrt(module.kernel_size[0])
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            case ImplicitFilter():
                nn.init.normal_(module.bias, generator=generator)
            case Sine():
                nn.init.constant_(module.freq, config.filter_freq)
            case nn.LayerNorm():
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            case _:
                if next(module.parameters(recurse=False), None) is not None:
                    raise TypeError(f"no initial value is defined for the parameters of {name}")
