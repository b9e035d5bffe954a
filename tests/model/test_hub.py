"""Models from the hub, against a fake hub on this machine: only settings and safetensors are ever asked for."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hyena_dna.errors import InputError
from hyena_dna.model import hub
from hyena_dna.model.checkpoint import load_model, parameters_digest, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import export_model
from hyena_dna.model.hub import HubName
from hyena_dna.model.model import HyenaDNA

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra [hf] is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = HyenaConfig(d_model=8, n_layer=1, max_length=18, filter_order=8)


class _Hub(ThreadingHTTPServer):
    """The few addresses of the hub's interface that a download uses."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and parts[2:4] == ["owner", "name"] and parts[-1] in (COMMIT, "main", "v1"):
            files = [{"rfilename": file.name} for file in sorted(self.server.root.iterdir())]
            entries = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                       for file in sorted(self.server.root.iterdir())]  # fmt: skip
            answer: Any = entries if "tree" in parts else {"id": "owner/name", "sha": COMMIT, "siblings": files}
            self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"}, body)
        elif parts[:3] == ["owner", "name", "resolve"] and (self.server.root / parts[-1]).is_file():
            data = (self.server.root / parts[-1]).read_bytes()
            etag = hashlib.sha256(data).hexdigest()
            self._send(data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
        else:
            code = "RevisionNotFound" if parts[2:4] == ["owner", "name"] else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hub]:
    """A hub with one repository, `owner/name`, whose files lie in `root`."""
    root = tmp_path / "repository"
    root.mkdir()
    server = _Hub(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    original = huggingface_hub.snapshot_download

    def download(repo: str, **options: Any) -> str:
        found = original(repo, endpoint=address, cache_dir=tmp_path / "hub-cache", token=False, **options)
        assert isinstance(found, str)
        return found

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    yield server
    server.shutdown()
    server.server_close()


def fill(root: Path, made: Path) -> None:
    for file in made.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    # What must not even be asked for.
    (root / "modeling_hyena.py").write_text("raise SystemExit('run')")
    (root / "pytorch_model.bin").write_bytes(b"\x80\x02.")


@pytest.mark.parametrize("revision", ["", "@main", "@v1", f"@{COMMIT}"])
def test_a_model_of_the_port_is_downloaded_and_loaded(revision: str, fake_hub: _Hub, tmp_path: Path) -> None:
    model = HyenaDNA(CONFIG)
    export_model(model, tmp_path / "hf", layout="hf")
    fill(fake_hub.root, tmp_path / "hf")
    loaded = load_model(f"hf:owner/name{revision}")
    assert parameters_digest(loaded) == parameters_digest(model)
    files = {path.rsplit("/", 1)[-1] for path in fake_hub.asked if "/resolve/" in path}
    assert files == {"config.json", "model.safetensors"}
    folder = hub.download(f"hf:owner/name{revision}")
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == files


def test_our_own_layout_on_the_hub(fake_hub: _Hub, tmp_path: Path) -> None:
    model = HyenaDNA(CONFIG)
    save_model(model, tmp_path / "ours")
    fill(fake_hub.root, tmp_path / "ours")
    assert parameters_digest(load_model("hf:owner/name")) == parameters_digest(model)


def test_pickles_alone_are_not_downloaded(fake_hub: _Hub) -> None:
    (fake_hub.root / "config.json").write_text("{}")
    (fake_hub.root / "weights.ckpt").write_bytes(b"\x80\x02.")
    with pytest.raises(InputError, match=r"has no model\.safetensors.*only safetensors"):
        load_model("hf:owner/name")
    assert not any(path.endswith("weights.ckpt") for path in fake_hub.asked)


@pytest.mark.parametrize("name", ["hf:owner/other", "hf:owner/name@absent"])
def test_what_is_not_there_is_one_line(name: str, fake_hub: _Hub) -> None:
    with pytest.raises(InputError, match=f"{name} cannot be downloaded") as caught:
        load_model(name)
    assert "\n" not in str(caught.value)
    assert fake_hub.asked


def test_no_network_is_one_line(fake_hub: _Hub) -> None:
    fake_hub.shutdown()
    fake_hub.server_close()
    with pytest.raises(InputError, match="cannot be downloaded"):
        load_model("hf:owner/name")


def test_names() -> None:
    assert HubName.parse("hf:LongSafari/hyenadna-tiny-1k-seqlen-hf") == HubName(
        "LongSafari/hyenadna-tiny-1k-seqlen-hf", None)  # fmt: skip
    assert HubName.parse("hf:a/b@refs/pr/1") == HubName("a/b", "refs/pr/1")
    for bad in ("hf:", "hf:a", "hf:a/b/c", "hf:../x", "hf:a/b@", "hf:a/b@../x", "hf:a/b\n", "hf:a/..", "hf:http://x/y"):
        with pytest.raises(InputError, match="write hf:owner/name"):
            HubName.parse(bad)


def test_without_the_extra_the_install_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'hyena-dna\[hf\]'"):
        load_model("hf:owner/name")
