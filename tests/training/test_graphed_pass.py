"""Recorded passes: the same steps as without a graph, and an evaluation that sees the new weights."""

from __future__ import annotations

import pytest
import torch

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training import graphed_pass
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.engine import Engine, Precision, TokenBatch
from hyena_dna.training.graphed_pass import GraphedPass, suits_graph
from hyena_dna.training.optim import build_optimizer
from hyena_dna.training.plan import StepPlan

WINDOW, ROWS = 256, 8


def engine(device: str, graph: bool) -> tuple[HyenaDNA, Engine]:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=64, n_layer=2, max_length=WINDOW + 2, embed_dropout=0.0)).to(device)
    config = PretrainConfig.model_validate(
        {
            "model": model.config,
            "data": {"window": WINDOW},
            "optim": {"duration": "20 steps", "batch_tokens": WINDOW * ROWS, "lr": 1e-2},
        }
    )
    optimizer = build_optimizer(model, config.optim)
    precision: Precision = "bf16" if device == "cuda" else "fp32"
    plan = StepPlan.make(config, 10**6)
    return model, Engine(model, optimizer, config.optim, plan, precision=precision, seed=1, graph=graph)


def batches(device: str, count: int) -> list[TokenBatch]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 11, (count, ROWS, WINDOW + 1), generator=generator, dtype=torch.uint8).to(device)
    return [TokenBatch(one[:, :-1], one[:, 1:], torch.ones(ROWS, WINDOW, device=device)) for one in ids]


def test_what_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = engine("cpu", graph=True)
    cuda = torch.device("cuda")
    monkeypatch.setattr(graphed_pass, "_memory", lambda _: 24 << 30)
    assert suits_graph(model, 1024, cuda)
    assert suits_graph(model, 1 << 20, cuda)
    monkeypatch.setattr(graphed_pass, "_memory", lambda _: 8 << 30)
    assert not suits_graph(model, 1 << 20, cuda)
    assert not suits_graph(model, 1024, torch.device("cpu"))
    assert not suits_graph(model, 1 << 24, cuda)
    noisy = HyenaDNA(HyenaConfig(d_model=64, n_layer=2, max_length=WINDOW + 2, embed_dropout=0.1))
    assert not suits_graph(noisy, 1024, cuda)


def test_a_step_counts_as_a_write_to_every_parameter() -> None:
    model, made = engine("cpu", graph=True)
    unused = torch.nn.Parameter(torch.zeros(3))
    model.register_parameter("unused", unused)
    before = unused._version
    made.step(0, batches("cpu", 1))
    assert unused._version > before


def test_what_comes_before_a_recording_leaves_no_trace() -> None:
    weight, unused = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    weight.grad = torch.ones(3)
    running = torch.tensor([5.0])
    seen = []

    def run(batch: TokenBatch, nominal: int) -> torch.Tensor:
        seen.append(float(running))
        running.lerp_(batch.loss_weight.mean()[None], 0.5)
        torch.autograd.backward((weight * running).sum() / nominal)
        return running.clone()

    made = GraphedPass(run, [weight, unused], [running])
    kept = weight.grad
    made._rehearse(batches("cpu", 1)[0], 2)
    assert seen == [5.0, 3.0], "as in training"
    assert running.tolist() == [5.0]
    assert weight.grad is kept
    assert weight.grad.tolist() == [0.0] * 3
    assert unused.grad is None


@pytest.mark.gpu
@pytest.mark.parametrize(("passes", "recompute"), [(1, False), (2, False), (1, True)])
def test_steps_equal_those_without_a_graph(passes: int, recompute: bool) -> None:
    losses, states, scores = [], [], []
    data = batches("cuda", 6)
    for graph in (False, True):
        model, made = engine("cuda", graph)
        model.set_recompute(recompute)
        found = []
        for step in range(0, 6, passes):
            found.append(made.step(step, data[step : step + passes])[:3])
            model.eval()
            with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
                scores.append(model(data[0].input_ids).logits.float().clone())
            model.train()
        losses.append(torch.stack(found))
        states.append([value.detach().clone() for value in model.parameters()])
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    for plain, recorded in zip(*states, strict=True):
        torch.testing.assert_close(plain, recorded, rtol=0, atol=0)
    half = len(scores) // 2
    for plain, recorded in zip(scores[:half], scores[half:], strict=True):
        torch.testing.assert_close(plain, recorded, rtol=0, atol=0)


@pytest.mark.gpu
def test_another_shape_is_recorded_anew() -> None:
    data = batches("cuda", 3)
    data[1] = TokenBatch(*(part[:4] for part in data[1]))
    model, made = engine("cuda", True)
    other, plain = engine("cuda", False)
    for step, batch in enumerate([*data, data[2]]):
        if step == 3:
            # What a step without a graph leaves behind.
            model.zero_grad(set_to_none=True)
        assert torch.equal(made.step(step, [batch]), plain.step(step, [batch]))
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
