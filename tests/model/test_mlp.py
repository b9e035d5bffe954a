from __future__ import annotations

import pytest
import torch

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.mlp import Mlp
from hyena_dna.ops import workspace


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_of_positions_equal_the_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = Mlp(HyenaConfig(d_model=8, n_layer=1, max_length=64))
    x = torch.randn(3, 50, 8)
    monkeypatch.setitem(workspace.WORKSPACE_BYTES, "cpu", 2 * 32 * 4 * 7)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        whole = module(x)
        with torch.no_grad():
            chunked = module(x)
    assert chunked.dtype == dtype
    torch.testing.assert_close(chunked, whole.detach())
