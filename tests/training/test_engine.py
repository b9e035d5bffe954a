from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.config import OptimConfig, PretrainConfig
from hyena_dna.training.engine import Engine, TokenBatch, step_seed
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan

WINDOW, ROWS = 32, 6


def _setup(dropout: float = 0.0, clip: float = 1e9) -> tuple[HyenaDNA, Engine, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=WINDOW, filter_order=8, embed_dropout=dropout))
    config = PretrainConfig.model_validate(
        {
            "model": model.config,
            "data": {"window": WINDOW},
            "optim": {"duration": "10 steps", "batch_tokens": WINDOW * ROWS, "clip": clip},
        }
    )
    optimizer = build_optimizer(model, config.optim)
    plan = StepPlan.make(config, 10**6)
    return model, Engine(model, optimizer, config.optim, plan, precision="fp32", seed=1), optimizer


def _batch() -> TokenBatch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 11, (ROWS, WINDOW + 1), generator=generator, dtype=torch.uint8)
    weight = torch.ones(ROWS, WINDOW)
    # Rows count for very different numbers of targets, as padded and N-rich ones do.
    weight[0, 3:] = 0
    weight[1, ::2] = 0.25
    return TokenBatch(ids[:, :-1], ids[:, 1:], weight)


def _split(batch: TokenBatch, bounds: list[int]) -> list[TokenBatch]:
    return [TokenBatch(*(part[a:b] for part in batch)) for a, b in pairwise(bounds)]


def _gradients(passes: list[TokenBatch]) -> tuple[dict[str, Tensor], Tensor]:
    model, engine, _ = _setup()
    numbers = engine.step(3, passes)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, numbers


def test_accumulated_gradients_equal_those_of_one_batch() -> None:
    whole, numbers = _gradients([_batch()])
    parts, part_numbers = _gradients(_split(_batch(), [0, 1, 2, 6]))
    torch.testing.assert_close(part_numbers, numbers, rtol=1e-5, atol=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)

    # The naive way, a mean of the means of the passes, is wrong here: the first pass has three targets.
    model, _, _ = _setup()
    for part in _split(_batch(), [0, 1, 2, 6]):
        logits = model(part.input_ids).logits[..., :12].float()
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), part.target_ids.long(), reduction="none")
        ((nats * part.loss_weight).sum() / part.loss_weight.sum() / 3).backward()  # type: ignore[no-untyped-call]
    name = "lm_head.weight" if "lm_head.weight" in whole else "backbone.embeddings.word_embeddings.weight"
    naive = dict(model.named_parameters())[name].grad
    assert naive is not None
    assert not torch.allclose(naive, whole[name], rtol=0.05, atol=1e-4)


def test_the_numbers_of_a_step_are_sums_over_its_targets() -> None:
    model, engine, _ = _setup()
    batch = _batch()
    with torch.no_grad():
        logits = model(batch.input_ids).logits[..., :12].double()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.target_ids.long(), reduction="none")
    numbers = engine.step(0, [batch], stop=True)
    assert numbers[0].item() == pytest.approx((nats * batch.loss_weight).sum().item(), rel=1e-5)
    assert numbers[1].item() == pytest.approx(batch.loss_weight.sum().item())
    assert numbers[3].item() == 1.0


def test_a_step_is_the_same_whatever_random_numbers_were_drawn_before() -> None:
    # Dropout noise that depends on the history of the process is what makes resumed runs differ.
    losses = []
    for burn in (0, 17):
        _, engine, _ = _setup(dropout=0.5)
        torch.rand(burn)
        losses.append(engine.step(4, [_batch()])[0].item())
    assert losses[0] == losses[1]


def test_steps_and_ranks_have_noise_of_their_own() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(4) for step in range(200) for rank in range(4)}
    assert len(seeds) == 4 * 200 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_batch_without_any_counted_target_leaves_no_gradient() -> None:
    model, engine, _ = _setup()
    batch = _batch()._replace(loss_weight=torch.zeros(ROWS, WINDOW))
    numbers = engine.step(0, [batch])
    assert numbers[2].item() == 0.0
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_long_gradients_are_clipped_before_the_update() -> None:
    model, engine, _ = _setup(clip=1e-3)
    numbers = engine.step(0, [_batch()])
    assert numbers[2].item() > 1e-2
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_of_a_step_is_set_before_it() -> None:
    _, engine, optimizer = _setup()
    engine.step(9, [_batch()])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(engine.lr(9))
    assert engine.lr(9) == pytest.approx(OptimConfig(duration="1 step").lr * 0.1)
