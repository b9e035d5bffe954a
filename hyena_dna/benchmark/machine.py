"""What a measurement ran on: devices, clocks, versions, the commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["commit", "describe_machine", "package_versions"]

_GPU_FIELDS = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "power.draw",
               "utilization.gpu")  # fmt: skip
_PACKAGES = ("hyena-dna", "torch", "triton", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of what speed depends on; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    """The processor, how busy it is, and of a GPU its name, clocks and other processes, as far as they can be read."""
    found: dict[str, Any] = {
        "device": str(device),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": os.getloadavg()[0],
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["gpu"] = card.name
        found["gpu_memory_bytes"] = card.total_memory
        own = f"--id={device.index or 0}"
        row = _run("nvidia-smi", own, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader").split(",")
        found["gpu_state"] = dict(zip(_GPU_FIELDS, (part.strip() for part in row), strict=False))
        others = _run("nvidia-smi", own, "--query-compute-apps=pid,used_memory", "--format=csv,noheader")
        found["gpu_processes"] = others.splitlines()
    return found


def commit() -> str | None:
    """The commit of the checkout that this package lies in, with `-dirty` where it was changed; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    return _run("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40") or None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
