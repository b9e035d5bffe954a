from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from hyena_dna.ops.long_conv import dispatch, long_conv
from hyena_dna.ops.long_conv.plain import plain_long_conv
from hyena_dna.ops.long_conv.reference import reference_long_conv


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator) for shape in ((2, 3, 100), (3, 100), (3,)))  # type: ignore[return-value]


def test_all_implementations_agree() -> None:
    u, kernel, skip = inputs()
    exact = long_conv(u, kernel, skip, impl="reference")
    for precision in ("high", "fast"):
        for impl in ("auto", "rfft", "fft"):
            y = long_conv(u, kernel, skip, impl=impl, precision=precision)
            assert (y - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.randn(3, 100)}, "u is (batch, channels, length)"),
        ({"u": torch.randn(2, 3, 0)}, "length at least 1"),
        ({"kernel": torch.randn(3, 101)}, "kernel is (channels, length)"),
        ({"skip": torch.randn(4)}, "skip is (channels,)"),
        ({"u": torch.ones(2, 3, 100, dtype=torch.int64)}, "floating"),
        ({"impl": "fftt"}, "impl is auto"),
        ({"precision": "exact"}, "precision is high or fast"),
        ({"impl": "monarch"}, "precision fast, not high"),
    ],
)
def test_refuses_what_it_cannot_do(change: dict[str, Any], message: str) -> None:
    u, kernel, skip = inputs()
    with pytest.raises(ValueError, match=re.escape(message)):
        long_conv(**({"u": u, "kernel": kernel, "skip": skip} | change))


def test_small_inputs_are_left_to_autograd_where_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "is_fused", lambda _: True)
    monkeypatch.setattr(dispatch, "FEW_VALUES", {"meta": 1 << 23})
    kernel = torch.empty(256, 32_768, device="meta")
    small, large = (torch.empty(batch, 256, 32_768, device="meta") for batch in (1, 2))
    assert dispatch.choose(small, kernel, precision="fast") == "rfft"
    assert dispatch.choose(small, kernel, precision="high") == "rfft"
    assert dispatch.choose(small, kernel, precision="fast", alone=False) == "monarch"
    assert dispatch.choose(large, kernel, precision="fast") == "monarch"
    assert dispatch.choose(large, kernel, precision="high", alone=False) == "fft"
    assert dispatch.choose(small, kernel, impl="monarch", precision="fast") == "monarch"
    on_cpu = (torch.empty(1, channels, 1024) for channels in (64, 65))
    monkeypatch.undo()
    assert [dispatch.choose(u, u[0]) for u in on_cpu] == ["rfft", "fft"]


@pytest.mark.parametrize("length", [1, 2, 7, 500])
def test_the_one_for_small_inputs_equals_the_definition(length: int) -> None:
    made = (torch.randn(size, dtype=torch.float64) for size in ((2, 3, length), (3, length), (3,)))
    u, kernel, skip = (value.requires_grad_() for value in made)
    exact = reference_long_conv(u.detach(), kernel.detach(), skip.detach())
    torch.testing.assert_close(plain_long_conv(u, kernel, skip), exact, rtol=1e-11, atol=1e-11)
    exact = reference_long_conv(u.detach(), kernel.detach())
    torch.testing.assert_close(plain_long_conv(u, kernel), exact, rtol=1e-11, atol=1e-11)
    if length < 10:
        assert gradcheck(plain_long_conv, (u, kernel, skip))
        assert gradgradcheck(plain_long_conv, (u, kernel, skip))
    low = plain_long_conv(u.bfloat16(), kernel.float(), skip.bfloat16())
    assert low.dtype == torch.bfloat16
    # What is rounded is the result: the skip term, as everything else, is added in float32.
    wide = plain_long_conv(u.bfloat16().float(), kernel.float(), skip.bfloat16().float())
    assert torch.equal(low, wide.bfloat16())


@pytest.mark.parametrize("impl", ["fft", "rfft", "reference"])
def test_the_result_may_take_the_place_of_the_input(impl: Any) -> None:
    u, kernel, skip = inputs()
    exact = long_conv(u, kernel, skip, impl=impl)
    with torch.no_grad():
        assert long_conv(u, kernel, skip, impl=impl, out=u) is u
    torch.testing.assert_close(u, exact, rtol=0, atol=0)


def test_refuses_to_write_where_it_must_not() -> None:
    u, kernel, skip = inputs()
    with pytest.raises(ValueError, match="only without autograd"):
        long_conv(u, kernel, skip, out=u)
    with torch.no_grad():
        with pytest.raises(ValueError, match=re.escape("out is torch.float32")):
            long_conv(u, kernel, skip, out=u.double())
        with pytest.raises(ValueError, match="precision is"):
            long_conv(u, kernel, skip, precision="exact", out=u)  # type: ignore[arg-type]
