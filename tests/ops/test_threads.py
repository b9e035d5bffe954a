from __future__ import annotations

import threading

import pytest
import torch

from hyena_dna.ops import threads
from hyena_dna.ops.threads import run_pieces


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.usefixtures("two_threads")
def test_pieces_run_side_by_side() -> None:
    # Neither gets past the barrier without the other.
    barrier = threading.Barrier(2, timeout=30)

    def meet(_: int) -> None:
        barrier.wait()

    run_pieces(meet, range(2))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("inference", [False, True])
def test_every_piece_runs_once_without_autograd_in_the_mode_of_the_caller(inference: bool) -> None:
    done = torch.zeros(100)

    def piece(index: int) -> None:
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == inference
        done[index] += 1

    with torch.inference_mode(inference), torch.no_grad():
        run_pieces(piece, range(100))
    assert (done == 1).all()


@pytest.mark.usefixtures("two_threads")
def test_an_error_reaches_the_caller() -> None:
    def fail(index: int) -> None:
        if index == 1:
            raise ValueError("piece 1")

    with pytest.raises(ValueError, match="piece 1"):
        run_pieces(fail, range(3))


def test_threads_that_are_yet_to_start_keep_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    threads._pool.cache_clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    run_pieces(lambda _: None, range(6))
    monkeypatch.undo()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert found == [3]
