from __future__ import annotations

import torch

from hyena_dna.ops.workspace import WORKSPACE_BYTES, map_rows, rows_per_chunk


def test_a_row_larger_than_the_workspace_is_still_processed() -> None:
    assert rows_per_chunk(torch.device("cpu"), 10 * WORKSPACE_BYTES["cpu"]) == 1
    assert rows_per_chunk(torch.device("cpu"), WORKSPACE_BYTES["cpu"] // 3) == 3


def test_rows_come_back_whole_and_in_order() -> None:
    rows = torch.arange(22.0).view(11, 2)
    calls: list[int] = []

    def double(part: torch.Tensor) -> torch.Tensor:
        calls.append(len(part))
        return torch.cat([part, 2 * part], dim=1)

    torch.testing.assert_close(map_rows(double, rows, 4), torch.cat([rows, 2 * rows], dim=1))
    assert calls == [4, 4, 3]
