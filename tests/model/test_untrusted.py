"""Hostile and damaged checkpoint files: refused with one line, nothing in them run, in any environment."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import tarfile
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import load_model, read_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.names import from_native
from hyena_dna.model.official_config import to_official
from hyena_dna.model.tables import make_tables
from hyena_dna.model.untrusted import read_torch_file

CONFIG = HyenaConfig(d_model=8, n_layer=1, max_length=18, filter_order=8)


def state_dict() -> dict[str, torch.Tensor]:
    """A small model in the Lightning layout."""
    parameters = {name: value.detach() for name, value in HyenaDNA(CONFIG).named_parameters()}
    return from_native(parameters, make_tables(CONFIG), CONFIG, "lightning")


def lightning(**extra: Any) -> dict[str, Any]:
    return {"state_dict": state_dict(), "epoch": 3, "global_step": 100, **extra}


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Reduces:
    """Pickles as a call of anything."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], tuple(self.call[1:])


def repacked(data: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None], **options: Any) -> bytes:
    """A zip archive with its records changed, renamed, or (None) left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", **options) as new:
        for info in old.infolist():
            record = change(info.filename, old.read(info))
            if record is not None:
                new.writestr(*record)
    return out.getvalue()


def with_pickle(opcodes: bytes) -> bytes:
    """A torch archive around a hand-written pickle."""
    return repacked(saved({"x": torch.zeros(4)}), lambda name, data: (name, opcodes if name.endswith(".pkl") else data))


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


STORAGE = b"(" + text("storage") + global_("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"


def tensor_pickle(shape: bytes, stride: bytes, storage: bytes = STORAGE) -> bytes:
    rebuild = global_("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"K\x00" + shape + stride
    return b"\x80\x02}" + text("x") + rebuild + b"\x89" + global_("collections", "OrderedDict") + b")RtRs."


def bare(command: str) -> bytes:
    return pickle.dumps({"state_dict": Reduces(os.system, command)})


def legacy_tar(_: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps({})
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def npy_object(command: str) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Reduces(os.system, command)], dtype=object), allow_pickle=True)
    return out.getvalue()


def partial_system(command: str) -> bytes:
    import functools

    return saved(lightning(callbacks={"on_load": functools.partial(os.system, command)}))


def nested_zip(command: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", saved({"x": Reduces(os.system, command)}))
    return out.getvalue()


def bomb(_: str) -> bytes:
    data = saved({"x": torch.zeros(4_000_000)})
    return repacked(data, lambda name, content: (name, content), compression=zipfile.ZIP_DEFLATED)


def flipped(_: str) -> bytes:
    data = saved(lightning())
    position = data.index(state_dict_bytes(data)) + 3
    return data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]


def state_dict_bytes(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("archive/data/0")


def truncated(share: float) -> Callable[[str], bytes]:
    def make(_: str) -> bytes:
        data = saved(lightning())
        return data[: int(len(data) * share)]

    return make


def with_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[str], bytes]:
    def make(_: str) -> bytes:
        content = lightning()
        name = "model.backbone.ln_f.weight"
        content["state_dict"][name] = change(content["state_dict"][name])
        return saved(content)

    return make


def nan(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.index_fill(0, torch.tensor(3), float("nan"))


def pickled(opcodes: bytes) -> Callable[[str], bytes]:
    return lambda _: with_pickle(opcodes)


def calls(function: Callable[..., Any]) -> Callable[[str], bytes]:
    """A checkpoint that calls a function with Python code that makes the canary."""
    return lambda command: saved(lightning(hook=Reduces(function, f"__import__('os').system({command!r})")))


RUNNING: dict[str, Callable[[str], bytes]] = {
    # Each of these runs the command when it is unpickled.
    "os.system by REDUCE": lambda command: saved(lightning(hook=Reduces(os.system, command))),
    "os.system as a weight": lambda command: saved({"state_dict": {"x": Reduces(os.system, command)}}),
    "builtins.eval": calls(eval),
    "builtins.exec": calls(exec),
    "getattr chain": lambda command: with_pickle(
        b"\x80\x02}" + text("x") + global_("builtins", "getattr") + global_("os", "path") + text("os") + b"\x86R"
        + b"q\x01" + b"0" + global_("builtins", "getattr") + b"h\x01" + text("system") + b"\x86R" + text(command)
        + b"\x85Rs."),
    "INST": lambda command: with_pickle(b"(" + text(command) + b"ios\nsystem\n."),
    "OBJ": lambda command: with_pickle(
        b"(" + global_("subprocess", "Popen") + b"]" + text("sh") + b"a" + text("-c") + b"a" + text(command) + b"ao."),
    "STACK_GLOBAL": lambda command: with_pickle(
        b"\x80\x04" + text("os") + text("system") + b"\x93" + text(command) + b"\x85R."),
    "code among OmegaConf objects": lambda command: with_pickle(
        b"\x80\x02}" + text("h") + global_("omegaconf.dictconfig", "DictConfig") + b")\x81}" + text("_content")
        + global_("posix", "system") + text(command) + b"\x85Rsbs."),
    "bare pickle": bare,
    "legacy file without zip": lambda command: saved(
        {"x": Reduces(os.system, command)}, _use_new_zipfile_serialization=False),
    "numpy object array": npy_object,
}  # fmt: skip

BROKEN: dict[str, Callable[[str], bytes]] = {
    "empty": lambda _: b"",
    "functools.partial": partial_system,
    "NEWOBJ": pickled(b"\x80\x02" + global_("subprocess", "Popen") + b")\x81."),
    "NEWOBJ_EX": pickled(b"\x80\x04" + global_("collections", "OrderedDict") + b")}\x92."),
    "text": lambda _: b"not a checkpoint\n",
    "truncated in the header": truncated(0.001),
    "truncated in the pickle": truncated(0.05),
    "truncated in a tensor": truncated(0.5),
    "truncated in the directory": truncated(0.97),
    "legacy tar": legacy_tar,
    "nested zip": nested_zip,
    "zip bomb": bomb,
    "bit flip in a record": flipped,
    "huge shape": pickled(tensor_pickle(b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85", b"K\x01\x85")),
    "huge shape by stride 0": pickled(tensor_pickle(b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85", b"K\x00\x85")),
    "stride beyond the storage": pickled(tensor_pickle(b"K\x02\x85", b"K\x09\x85")),
    "negative shape": pickled(tensor_pickle(b"J\xff\xff\xff\xff\x85", b"K\x01\x85")),
    "huge storage": pickled(
        tensor_pickle(b"K\x04\x85", b"K\x01\x85", STORAGE.replace(b"K\x04tQ", b"\x8a\x06\x00\x00\x00\x00\x00\x10tQ"))),
    "storage outside the archive": pickled(
        tensor_pickle(b"K\x04\x85", b"K\x01\x85", STORAGE.replace(text("0"), text("../../etc/passwd")))),
    "storage in two ways": pickled(
        b"\x80\x02" + STORAGE + STORAGE.replace(b"FloatStorage", b"IntStorage") + b"\x86."),
    "persistent id of another kind": pickled(b"\x80\x02" + text("module") + b"Q."),
    "persistent id as text": pickled(b"Pmodule\n."),
    "extension registry": pickled(b"\x80\x02\x82\x01)R."),
    "state of a name": pickled(
        b"\x80\x02" + global_("collections", "OrderedDict") + b"N}" + text("update") + b"K\x01s\x86b."),
    "call of a text": pickled(b"\x80\x02" + text("os.system") + text("true") + b"\x85R."),
    "name made up by a call": pickled(
        b"\x80\x04" + global_("builtins", "str") + text("os") + b"\x85R" + text("system") + b"\x93."),
    "deep tuple as a key": pickled(b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s."),
    "no end": pickled(b"\x80\x02}"),
    "empty stack": pickled(b"\x80\x02R."),
    "unknown opcode": pickled(b"\x80\x02\xff."),
    "not a dict": lambda _: saved([1, 2]),
    "not a tensor": lambda _: saved({"state_dict": {"x": "y"}}),
    "record twice": lambda _: doubled(),
    "TorchScript archive": lambda _: repacked(saved(lightning()), script),
    "big-endian": lambda _: repacked(
        saved(lightning()), lambda name, data: (name, b"big" if name.endswith("byteorder") else data)),
    "missing record": lambda _: repacked(
        saved(lightning()), lambda name, data: None if name.endswith("data/0") else (name, data)),
    "NaN weight": with_weight(nan),
    "infinite weight": with_weight(lambda tensor: tensor / 0),
    "integer weight": with_weight(lambda tensor: tensor.int()),
    "complex weight": with_weight(lambda tensor: tensor.to(torch.complex64)),
    "scalar for a vector": with_weight(lambda tensor: tensor[0]),
}  # fmt: skip


def script(name: str, data: bytes) -> tuple[str, bytes]:
    return (name.replace("version", "constants.pkl"), data)


def doubled() -> bytes:
    out = io.BytesIO(saved(lightning()))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", b"\0" * 512)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(to_official(CONFIG)))
    return tmp_path


@pytest.fixture(params=[None, "1"], ids=["plain", "forced"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the variable that turns torch's safe default off."""
    if request.param:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", request.param)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", [*RUNNING, *BROKEN])
@pytest.mark.parametrize("file", ["weights.ckpt", "model.safetensors"])
def test_hostile_files_are_refused(name: str, file: str, folder: Path) -> None:
    canary = folder / "canary"
    path = folder / file
    path.write_bytes((RUNNING | BROKEN)[name](f"touch {canary}"))
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert not canary.exists()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RUNNING)
def test_the_corpus_is_live(name: str, tmp_path: Path) -> None:
    # Without this the corpus could be harmless by mistake, and the test above could not fail.
    canary, path = tmp_path / "canary", tmp_path / "file"
    path.write_bytes(RUNNING[name](f"touch {canary}"))
    process = os.fork()
    if process == 0:
        try:
            if name == "numpy object array":
                np.load(path, allow_pickle=True)
            elif name == "bare pickle":
                pickle.loads(path.read_bytes())
            else:
                sys.modules["omegaconf"] = sys.modules["omegaconf.dictconfig"] = fake("omegaconf", "DictConfig")
                torch.load(path, weights_only=False)
        finally:
            os._exit(0)
    os.waitpid(process, 0)
    for _ in range(100):
        if canary.exists():
            break
        time.sleep(0.05)
    assert canary.exists()


def test_refusals_name_the_global(folder: Path) -> None:
    for name, wanted in (("os.system by REDUCE", "posix.system"), ("builtins.eval", "builtins.eval"),
                         ("functools.partial", "functools.partial"), ("STACK_GLOBAL", "os.system")):  # fmt: skip
        (folder / "weights.ckpt").write_bytes((RUNNING | BROKEN)[name]("true"))
        with pytest.raises(InputError, match=f"names {wanted}, which is neither"):
            load_model(folder)


def test_torch_itself_loads_a_flipped_bit(folder: Path) -> None:
    # Why records are read before torch sees them: it does not compare checksums.
    path = folder / "weights.ckpt"
    path.write_bytes(flipped(""))
    assert torch.load(path, weights_only=True)
    with pytest.raises(InputError, match="CRC"):
        load_model(folder)


def test_a_flipped_bit_in_our_own_file(tmp_path: Path) -> None:
    save_model(HyenaDNA(CONFIG), tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert safetensors.torch.load_file(path)
    with pytest.raises(InputError, match="sha256"):
        load_model(tmp_path / "model")


def fake(module: str, *names: str) -> types.ModuleType:
    """A module with empty classes, as if the package were installed."""
    made = types.ModuleType(module)
    for name in names:
        setattr(made, name, type(name, (), {"__module__": module}))
    return made


def omegaconf_checkpoint(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Lightning checkpoint whose settings are OmegaConf objects, from a model trained with recomputation."""
    modules = {
        "pytorch_lightning": fake("pytorch_lightning"),
        "pytorch_lightning.utilities": fake("pytorch_lightning.utilities"),
        "omegaconf": fake("omegaconf"),
        "omegaconf.dictconfig": fake("omegaconf.dictconfig", "DictConfig"),
        "omegaconf.base": fake("omegaconf.base", "ContainerMetadata", "Metadata"),
        "omegaconf.nodes": fake("omegaconf.nodes", "AnyNode"),
        "pytorch_lightning.utilities.parsing": fake("pytorch_lightning.utilities.parsing"),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    attribute_dict = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning.utilities.parsing"})
    modules["pytorch_lightning.utilities.parsing"].AttributeDict = attribute_dict  # type: ignore[attr-defined]
    node = modules["omegaconf.nodes"].AnyNode()
    node.__dict__ |= {"_metadata": modules["omegaconf.base"].Metadata(), "_val": 3}
    metadata = modules["omegaconf.base"].ContainerMetadata()
    metadata.__dict__ |= {"ref_type": Any, "object_type": dict, "key_type": str}
    settings_ = modules["omegaconf.dictconfig"].DictConfig()
    settings_.__dict__ |= {"_metadata": metadata, "_parent": None, "_content": {"order": node, "self": settings_}}
    content = lightning(hyper_parameters=attribute_dict(model=settings_, names=set("ab")))
    names = [(name.replace("mixer.", "mixer.layer.").replace("mlp.", "mlp.layer."), value)
             for name, value in content["state_dict"].items()]  # fmt: skip
    return content | {"state_dict": dict(names)}


@pytest.mark.usefixtures("environment")
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_omegaconf_settings_are_left_out(protocol: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The published weights.ckpt are such files; torch's own safe reader refuses them.
    with monkeypatch.context() as patch:
        content = omegaconf_checkpoint(patch)
        path = folder / "weights.ckpt"
        path.write_bytes(saved(content, pickle_protocol=protocol))
    assert "omegaconf" not in sys.modules
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    loaded = read_model(folder)
    assert "omegaconf" not in sys.modules
    assert loaded.layout == "lightning"
    assert "other packages" in loaded.kind
    assert loaded.card.steps == 100
    for name, parameter in loaded.model.named_parameters():
        theirs = content["state_dict"]["model." + name.replace("mixer.", "mixer.layer.").replace("mlp.", "mlp.layer.")]
        assert torch.equal(parameter, theirs)


def test_records_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    # Views, transposes, shared storages, empty tensors and every dtype, with one foreign object to keep torch out.
    base = torch.arange(24, dtype=torch.float32).view(4, 6)
    content: dict[str, Any] = {"base": base, "row": base[2], "transposed": base.T, "every_second": base[:, ::2],
                               "empty": torch.empty(0, 3), "scalar": torch.tensor(2.5),
                               "parameter": torch.nn.Parameter(torch.ones(3))}  # fmt: skip
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64):
        content[str(dtype)] = torch.tensor([0, 1, 2]).to(dtype)
    plain, foreign = tmp_path / "plain.pt", tmp_path / "foreign.pt"
    torch.save({"state_dict": content}, plain)
    torch.save({"state_dict": content, "callbacks": {dict: 1, "types": [list, Any]}}, foreign)
    ours, theirs = read_torch_file(foreign), read_torch_file(plain)
    assert (ours.restricted, theirs.restricted) == (True, False)
    assert list(ours.tensors) == list(theirs.tensors) == list(content)
    for name, tensor in theirs.tensors.items():
        assert ours.tensors[name].dtype == tensor.dtype == content[name].dtype
        assert torch.equal(ours.tensors[name], tensor), name


def test_a_saved_state_dict_has_attributes(tmp_path: Path) -> None:
    # `module.state_dict()` is an OrderedDict with a `_metadata` attribute, which the pickle sets with BUILD.
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "x.pt")
    assert list(read_torch_file(tmp_path / "x.pt").tensors) == ["weight", "bias"]


VALID = saved(lightning(callbacks={dict: 1}))
TRUTH = {name: value.clone() for name, value in torch.load(io.BytesIO(saved(torch.load(
    io.BytesIO(VALID), weights_only=False)["state_dict"])), weights_only=True).items()}  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(VALID) - 1), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_is_refused_or_harmless(position: int, bit: int, cut: bool, tmp_path: Path) -> None:
    data = VALID[:position] if cut else bytearray(VALID)
    if isinstance(data, bytearray):
        data[position] ^= 1 << bit
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(data)
    try:
        found = read_torch_file(path).tensors
    except InputError:
        return
    assert not cut
    assert list(found) == list(TRUTH)
    assert all(torch.equal(found[name], TRUTH[name]) for name in TRUTH)
