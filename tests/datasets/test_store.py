"""The token store: the same bases as the genome, whole or absent, and never those of another file."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from Bio.bgzf import BgzfWriter

from hyena_dna.datasets.store import TokenStore
from hyena_dna.errors import InputError
from hyena_dna.genome import verdicts
from hyena_dna.genome.fasta import scan_fasta
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.paths import cache_root
from hyena_dna.tokenizer import SOFT_MASK, Tokenizer

TEXT = b">a x\nACGTN\nRYacg\ntn\n>empty\n>b\nNNNNN\nGATTA\nCA\n"
STORED = [7, 8, 9, 10, 11, 11, 11, 135, 136, 137, 138, 139, 11, 11, 11, 11, 11, 9, 7, 10, 10, 7, 8, 7]


def write(path: Path, data: bytes = TEXT) -> Path:
    if path.suffix == ".gz":
        with BgzfWriter(str(path), "wb") as handle:  # type: ignore[no-untyped-call]
            handle.write(data)
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_a_store_holds_the_genome(tmp_path: Path, name: str) -> None:
    store = TokenStore.build(Reference(write(tmp_path / name)), tmp_path / "store")
    assert store.tokens.tolist() == STORED
    assert store.contigs == {"a": 12, "empty": 0, "b": 12}
    assert store.offsets == {"a": 0, "empty": 12, "b": 12}
    assert store.total == 24
    assert store.n_runs.tolist() == [[4, 7], [11, 12], [12, 17]]
    again = TokenStore.open(tmp_path / "store")
    assert again.fingerprint == store.fingerprint
    assert again.tokens.tolist() == STORED
    with pytest.raises(ValueError, match="read-only"):
        again.tokens[0] = 0


def test_a_store_equals_what_fetch_gives(tmp_path: Path, shared_data: Path) -> None:
    reference = Reference(shared_data / "human" / "human_contigs.fa.gz")
    store = TokenStore.for_reference(reference)
    rng = np.random.default_rng(0)
    for chrom in rng.choice(list(store.contigs), 40):
        start = int(rng.integers(0, store.contigs[chrom]))
        end = min(start + 5000, store.contigs[chrom])
        at = store.offsets[chrom]
        found = store.tokens[at + start : at + end] & (SOFT_MASK - 1)
        assert Tokenizer().decode(found).encode() == reference.fetch(Interval(str(chrom), start, end))
    is_n = np.zeros(store.total, np.bool_)
    for start, end in store.n_runs:
        is_n[start:end] = True
    assert (((store.tokens & 0x7F) == 11) == is_n).all()


def test_a_new_genome_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[object] = []

    def counted(*arguments: object, **options: object) -> object:
        passes.append(arguments)
        return scan_fasta(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(verdicts, "scan_fasta", counted)
    reference = Reference(write(tmp_path / "g.fa"))
    store = TokenStore.for_reference(reference)
    assert reference.fetch(Interval("b", 5, 12)) == b"GATTACA"
    assert reference.contigs == store.contigs
    assert len(passes) == 1
    assert TokenStore.for_reference(Reference(tmp_path / "g.fa")).path == store.path
    assert len(passes) == 1


def test_several_files_make_one_store(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.fa", b">a\nACN\n"), write(tmp_path / "two.fa.gz", b">b\nnT\n")
    store = TokenStore.for_reference(Reference([one, two]))
    assert store.tokens.tolist() == [7, 8, 11, 139, 10]
    assert store.offsets == {"a": 0, "b": 3}
    assert store.n_runs.tolist() == [[2, 3], [3, 4]]


def test_equal_sequences_have_equal_fingerprints(tmp_path: Path) -> None:
    def of(name: str, data: bytes) -> str:
        return TokenStore.for_reference(Reference(write(tmp_path / name, data))).fingerprint

    original = of("g.fa", TEXT)
    assert of("g.fa.gz", TEXT) == of("crlf.fa", TEXT.replace(b"\n", b"\r\n")) == original
    assert of("base.fa", TEXT.replace(b"GATTA", b"GATTC")) != original
    assert of("name.fa", TEXT.replace(b">b", b">c")) != original
    assert of("case.fa", TEXT.replace(b"GATTA", b"gATTA")) != original


def test_a_changed_genome_gets_a_new_store(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">a\nACGT\n")
    assert TokenStore.for_reference(Reference(path)).total == 4
    reference = Reference(path)
    assert reference.contigs == {"a": 4}
    write(path, b">a\nACGTACGT\n")
    with pytest.raises(InputError, match="changed during the run"):
        TokenStore.build(reference, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert TokenStore.for_reference(Reference(path)).total == 8
    assert len(list(cache_root().glob("stores/*/store.json"))) == 1


def test_a_bad_genome_leaves_no_store(tmp_path: Path) -> None:
    reference = Reference(write(tmp_path / "g.fa", b">a\nACGT\n>b\nAC-T\n"))
    with pytest.raises(InputError, match=":b:3: '-' in a sequence"):
        TokenStore.build(reference, tmp_path / "store")
    with pytest.raises(InputError, match="no bases"):
        TokenStore.for_reference(Reference(write(tmp_path / "empty.fa", b">a\n>b\n")))
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {"g.fa", "empty.fa"}
    assert not [p for p in tmp_path.iterdir() if ".tmp." in p.name]


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    reference = Reference(write(tmp_path / "g.fa"))
    TokenStore.build(reference, tmp_path / "store")
    with pytest.raises(InputError, match="exists already"):
        TokenStore.build(reference, tmp_path / "store")
    with pytest.raises(InputError, match="does not exist"):
        TokenStore.build(reference, tmp_path / "nowhere" / "store")


@pytest.mark.parametrize("damage", ["tokens.bin", "store.json", "version", "vocabulary"])
def test_a_damaged_store_is_refused_and_made_again(tmp_path: Path, damage: str) -> None:
    reference = Reference(write(tmp_path / "g.fa"))
    path = TokenStore.for_reference(reference).path
    if damage == "tokens.bin":
        (path / damage).write_bytes(bytes(24))
    elif damage == "store.json":
        (path / damage).write_text("{")
    else:
        record = json.loads((path / "store.json").read_text())
        record |= {"format_version": 99} if damage == "version" else {"vocabulary": ["A"]}
        (path / "store.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="store"):
        TokenStore.open(path)
    assert TokenStore.for_reference(reference).tokens.tolist() == STORED


def test_a_pickled_store_is_a_path(tmp_path: Path) -> None:
    """Pickling a memory map would send the genome to every worker."""
    store = TokenStore.build(Reference(write(tmp_path / "g.fa")), tmp_path / "store")
    assert store.tokens.tolist() == STORED
    data = pickle.dumps(store)
    assert len(data) < 500
    assert pickle.loads(data).tokens.tolist() == STORED


def test_reads_become_contigs(tmp_path: Path) -> None:
    reads = [("r1", b"ACGTN"), ("r2", b"nnGRa")]
    store = TokenStore.from_sequences(iter(reads), tmp_path / "store", {"bam": "x.bam"})
    assert store.tokens.tolist() == [7, 8, 9, 10, 11, 139, 139, 9, 11, 135]
    assert store.offsets == {"r1": 0, "r2": 5}
    assert store.n_runs.tolist() == [[4, 5], [5, 7], [8, 9]]
    assert store.source == {"bam": "x.bam"}
    for bad, fragment in (([("r", b"A"), ("r", b"C")], "twice"), ([("r", b"A C")], "r:2"), ([], "no bases")):
        with pytest.raises(InputError, match=fragment):
            TokenStore.from_sequences(bad, tmp_path / "bad", {})
        assert not (tmp_path / "bad").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size fails writes as a full disk does."""
    reference = Reference(write(tmp_path / "g.fa", b">a\n" + b"ACGT" * 100_000 + b"\n"))
    assert reference.contigs
    queue = multiprocessing.get_context("fork").Queue()

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            TokenStore.build(reference, tmp_path / "store")
        except InputError as error:
            queue.put(error.reason)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert "cannot be written" in queue.get(timeout=60)
    process.join()
    assert sorted(os.listdir(tmp_path)) == [".store.lock", "g.fa"]
