"""Labelled examples of every kind of input: what is read, which classes and splits come out, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyena_dna.datasets.label_splits import SplitRule, make_splits, settle_overlap
from hyena_dna.datasets.labelled import Examples, LabelledInputs, Place, read_examples
from hyena_dna.datasets.labels import ClassRule, check_classes, label_examples, parse_class
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.sequence import reverse_complement

LENGTH = 3000


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    with open(tmp_path / "genome.fa", "w", encoding="ascii") as handle:
        for name in ("chr1", "chr2", "chr3", "chr4"):
            bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), LENGTH).tobytes().decode()
            handle.write(f">{name}\n{bases}\n")
    return tmp_path / "genome.fa"


def bed(folder: Path, *rows: str) -> str:
    path = folder / "regions.bed"
    path.write_text("".join(f"{row}\n" for row in rows).replace(" ", "\t"))
    return str(path)


def table(folder: Path, text: str, name: str = "train.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def many(folder: Path, contigs: tuple[str, ...] = ("chr1", "chr2", "chr3", "chr4"), each: int = 10) -> str:
    return bed(folder, *(f"{chrom} {100 + 250 * i} {300 + 250 * i} {'ab'[i % 2]} 0 {'+-'[i % 2]}"
                         for chrom in contigs for i in range(each)))  # fmt: skip


@pytest.mark.parametrize("stranded", [False, True])
@pytest.mark.parametrize("window", [None, 64, 301])
def test_regions_are_what_the_genome_has(genome: Path, tmp_path: Path, window: int | None, stranded: bool) -> None:
    path = bed(tmp_path, "chr1 0 200 a 0 +", "chr2 100 350 b 0 -", "chr1 2900 3000 a 0 -")
    found = read_examples(LabelledInputs(genome=str(genome), regions=path, window=window, stranded=stranded))
    reference = Reference(genome)
    places = [Interval("chr1", 0, 200), Interval("chr2", 100, 350), Interval("chr1", 2900, 3000)]
    for row, (place, sequence) in enumerate(zip(places, found.sequences(), strict=True)):
        wanted = reference.fetch(place if window is None else place.resize(window))
        if stranded and row > 0:
            wanted = reverse_complement(wanted)
        assert sequence == wanted
        assert found.lengths[row] == (window or place.length)
    if window == 301:
        assert found.sequences()[0].startswith(b"N")
    assert found.labels == ["a", "b", "a"]
    assert [place.line for place in found.places] == [1, 2, 3]


def test_tables_of_sequences(tmp_path: Path) -> None:
    text = "sequence,label,split\nACGTAC,x,train\nacgtn,y,val\nGGGTTTCCC,x,test\n"
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, text)}, window=6))
    # Longer ones are cut around their centre, shorter ones stay.
    assert found.sequences() == [b"ACGTAC", b"ACGTN", b"GGTTTC"]
    assert found.splits == ["train", "val", "test"]
    pq.write_table(pa.table({"sequence": ["ACGT", "GGGT"], "label": [0, 1]}), tmp_path / "t.parquet")
    parquet = read_examples(LabelledInputs(tables={"train": str(tmp_path / "t.parquet")}))
    assert parquet.labels == ["0", "1"]
    assert parquet.sequences() == [b"ACGT", b"GGGT"]


def test_a_table_per_split_and_a_fasta_per_class(tmp_path: Path) -> None:
    tables = {name: table(tmp_path, f"sequence,label\n{bases},1\n", f"{name}.csv")
              for name, bases in (("train", "ACGT"), ("val", "AACC"), ("test", "GTGT"))}  # fmt: skip
    assert read_examples(LabelledInputs(tables=tables)).splits == ["train", "val", "test"]
    for name in "ab":
        (tmp_path / f"{name}.fa").write_text(f">r1\nACGT{name}\n>r2\nGG\nTT\n".replace("b", "c"))
    fasta = {"A": str(tmp_path / "a.fa"), "B": str(tmp_path / "b.fa")}
    found = read_examples(LabelledInputs(fasta=fasta))
    assert found.labels == ["A", "A", "B", "B"]
    assert found.sequences() == [b"ACGTA", b"GGTT", b"ACGTC", b"GGTT"]


def test_several_label_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "sequence,liver,heart\nACGT,1,0\nACGA,1,1\nACGC,0,0\n")
    found = read_examples(LabelledInputs(tables={"train": path}, label_column="liver,heart", require_labels=False))
    labelling = label_examples(found.labels, found.places, "multilabel")
    assert labelling.labels == ("heart", "liver")
    assert labelling.targets.tolist() == [[0, 1], [1, 1], [0, 0]]
    path = table(tmp_path, "sequence,liver,heart\nACGT,1,2\n")
    with pytest.raises(InputError, match=r"train\.csv:2: column 'heart' holds '2'"):
        read_examples(LabelledInputs(tables={"train": path}, label_column="liver,heart"))


def places(count: int) -> list[Place]:
    return [Place("t.csv", row + 2) for row in range(count)]


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [(["no", "yes", "no"], "binary", ("no", "yes")), (["10", "9", "9"], "binary", ("9", "10")),
     (["c", "a", "b"], "multiclass", ("a", "b", "c")), (["1.5", "2", "-3e2"], "regression", ("value",)),
     (["a;b", "b", "a"], "multilabel", ("a", "b")), (["1.0", "0.0", "1.0"], "binary", ("0.0", "1.0"))],
)  # fmt: skip
def test_the_kind_of_task(labels: list[str | None], kind: str, names: tuple[str, ...]) -> None:
    found = label_examples(labels, places(3))
    assert found.kind == kind
    assert found.labels == names


def test_targets() -> None:
    assert label_examples(["b", "a", "c"], places(3)).targets.tolist() == [1, 0, 2]
    assert label_examples(["b", "a"], places(2), positive="a").targets.tolist() == [0, 1]
    assert label_examples(["2", "5"], places(2), "regression").targets.tolist() == [2.0, 5.0]
    rules = [parse_class("promoter=*_promoter"), parse_class("enhancer")]
    found = label_examples(["x_promoter", "other", "enhancer", "y_promoter"], places(4), classes=rules)
    assert found.labels == ("promoter", "enhancer")
    assert found.rows.tolist() == [0, 2, 3]
    assert found.targets.tolist() == [0, 1, 0]
    assert found.left_out == {"other": 1}
    assert found.counts(np.array([0, 2])) == {"promoter": 2, "enhancer": 0}


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [(["a", "a"], {}, "one class only: a"), (["a", None], {}, r"t\.csv:3: the label is missing"),
     (["a", "b", "c"], {"kind": "binary"}, "two classes, not 3"),
     (["a", "b"], {"kind": "multiclass"}, "at least three"),
     (["1", "x"], {"kind": "regression"}, r"t\.csv:3: the label 'x' is not a number"),
     (["1", "inf"], {"kind": "regression"}, "not a finite number"), (["a", "b"], {"positive": "c"}, "not one of two"),
     ([f"peak{i}" for i in range(300)], {}, "300 different values"),
     (["a", "b"], {"classes": [ClassRule("q", ("z",))]}, "no example has a label of class 'q'"),
     (["a", "b"], {"classes": [ClassRule("q", ("a",)), ClassRule("r", ("a",))]}, "in two classes"),
     (["1.5", "2"], {"kind": "regression", "positive": "2"}, "has no classes")],
)  # fmt: skip
def test_labels_that_cannot_be_learnt(labels: list[str | None], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_examples(labels, places(len(labels)), **options)


@pytest.mark.parametrize("text", ["", "=a", "a=", "a=b,,c"])
def test_classes_that_say_nothing(text: str) -> None:
    with pytest.raises(InputError, match="NAME=LABEL"):
        parse_class(text)


def rows(*counts: int) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    borders = np.cumsum([0, *counts])
    return {name: np.arange(borders[i], borders[i + 1]) for i, name in enumerate(("train", "val", "test"))}


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [("abab", (2, 0, 2), "no examples for validation"), ("abab", (0, 2, 2), "no examples for training"),
     ("aaabab", (2, 2, 2), r"training has one class only \(train: a 2, b 0; val: a 1, b 1; test: a 1, b 1\)"),
     ("abaaab", (2, 2, 2), "validation has one class only"),
     ("ababcb", (2, 2, 2), r"t\.csv:6: the label 'c' is met in testing only"),
     ("abcbab", (2, 2, 2), r"t\.csv:4: the label 'c' is met in validation only")],
)  # fmt: skip
def test_splits_that_cannot_be_judged(labels: str, counts: tuple[int, ...], message: str) -> None:
    where = places(len(labels))
    with pytest.raises(InputError, match=message):
        check_classes(label_examples(list(labels), where), rows(*counts), where)


def test_constant_values_and_labels(caplog: pytest.LogCaptureFixture) -> None:
    where = places(6)
    with pytest.raises(InputError, match="same value"):
        check_classes(label_examples(["1.5", "1.5", "1", "2", "3", "4"], where), rows(2, 2, 2), where)
    with pytest.raises(InputError, match="one value only of 'a'"):
        check_classes(label_examples(["a", "a;b", "a", "b", "a", "b"], where), rows(2, 2, 2), where)
    check_classes(label_examples(list("ababaa"), where), rows(2, 2, 2), where)
    assert "one class only" in caplog.text


def examples(genome: Path, path: str, **options: Any) -> Examples:
    return read_examples(LabelledInputs(genome=str(genome), regions=path, **options))


def split_of(found: Examples, **rule: Any) -> Any:
    strata = np.array([ord(label or "a") for label in found.labels])
    return make_splits(found, strata, SplitRule(**rule))


def test_splits_by_contig(genome: Path, tmp_path: Path) -> None:
    found = examples(genome, many(tmp_path))
    contigs = np.array(found.contigs)
    (split,) = split_of(found, val_contigs=("chr2",), test_contigs=("chr[34]",))
    assert set(contigs[split.train]) == {"chr1"}
    assert set(contigs[split.val]) == {"chr2"}
    assert set(contigs[split.test]) == {"chr3", "chr4"}
    # Without a word two contigs are held out, always the same.
    (chosen,) = split_of(found)
    assert len(chosen.train) == 20
    assert len(chosen.val) == len(chosen.test) == 10
    assert "nearest to 10 %" in chosen.description
    (tmp_path / "folds.json").write_text('{"train": ["chr1"], "valid": ["chr2"], "test": ["chr3"]}')
    (folds,) = split_of(found, folds=str(tmp_path / "folds.json"))
    assert [len(part) for part in folds.parts().values()] == [10, 10, 10]
    assert "10 examples on other contigs are left out" in folds.description


def test_splits_by_column(tmp_path: Path) -> None:
    text = "sequence,label,split\n" + "".join(
        f"{'ACGT' * 3}{'ACGT'[i % 4]}{'ACGT'[i // 4 % 4]}{'ACGT'[i // 16]},{i % 2},{'test' if i > 29 else 'train'}\n"
        for i in range(40)
    )
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, text)}))
    # Validation is never the test: without rows of its own it is a part of training.
    (split,) = make_splits(found, np.arange(40) % 2, SplitRule())
    assert split.test.tolist() == list(range(30, 40))
    assert set(split.train.tolist()) | set(split.val.tolist()) == set(range(30))
    assert not set(split.train.tolist()) & set(split.val.tolist())


def test_random_folds_keep_overlaps_and_strands_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(30)]
    both = [*sequences, *(reverse_complement(s.encode()).decode() for s in sequences)]
    text = "sequence,label\n" + "".join(f"{s},{i % 2}\n" for i, s in enumerate(both))
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, text)}))
    splits = make_splits(found, np.arange(60) % 2, SplitRule(k_folds=5))
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(60))
    for split in splits:
        for part in split.parts().values():
            assert set((part % 30).tolist()) == {row % 30 for row in part.tolist()}
            assert len(part) == 2 * len(set((part % 30).tolist()))
        assert sum(settle_overlap(found, split, "refuse")[1].values()) == 0


@pytest.mark.parametrize(
    ("rule", "message"),
    [({"k_folds": 2}, "at least three"), ({"k_folds": 50}, "too few for 50 folds"),
     ({"val_contigs": ("chr9",)}, "no contig in use matches 'chr9'"),
     ({"val_contigs": ("chr1",), "test_contigs": ("chr*",)}, "for validation and for testing"),
     ({"val_contigs": ("chr1",), "k_folds": 3}, "two ways of splitting")],
)  # fmt: skip
def test_splits_that_are_refused(genome: Path, tmp_path: Path, rule: dict[str, Any], message: str) -> None:
    found = examples(genome, many(tmp_path))
    with pytest.raises(InputError, match=message):
        split_of(found, **rule)


def test_sequences_have_no_contigs_and_splits_have_names(tmp_path: Path) -> None:
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, "sequence,label\nACGT,1\nCCGT,0\n")}))
    with pytest.raises(InputError, match="these are sequences"):
        make_splits(found, np.zeros(2, np.int64), SplitRule(val_contigs=("chr1",)))
    path = table(tmp_path, "sequence,label,split\nACGT,1,train\nCCGT,0,holdout\n")
    found = read_examples(LabelledInputs(tables={"train": path}))
    with pytest.raises(InputError, match=r"train\.csv:3: the unknown split 'holdout'"):
        make_splits(found, np.zeros(2, np.int64), SplitRule())


def test_too_few_rows_of_a_class_for_folds(tmp_path: Path) -> None:
    text = "sequence,label\n" + "".join(f"{'ACGT' * 3}{'ACGT'[i % 4]}{'ACGT'[i // 4]},{i % 2}\n" for i in range(14))
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, text)}))
    with pytest.raises(InputError, match="too few examples of each class for 10 folds"):
        make_splits(found, np.arange(14) % 2, SplitRule())


def test_one_contig_cannot_be_split(genome: Path, tmp_path: Path) -> None:
    found = examples(genome, many(tmp_path, ("chr1",)))
    with pytest.raises(InputError, match="1 contig: too few"):
        split_of(found)


def test_overlap_between_splits(genome: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("chrom,start,end,label,split\nchr1,0,100,a,train\nchr1,200,300,b,train\nchr1,99,150,a,val\n"
                    "chr1,400,500,b,val\nchr1,150,160,a,test\nchr1,300,320,b,test\n")  # fmt: skip
    inputs = LabelledInputs(genome=str(genome), tables={"train": str(path)})
    found = read_examples(inputs)
    (split,) = make_splits(found, np.zeros(6, np.int64), SplitRule())
    with pytest.raises(InputError, match=r"t\.csv:4: examples share sequence between splits \(1 of val and train\)"):
        settle_overlap(found, split, "refuse")
    kept, counts = settle_overlap(found, split, "allow")
    assert counts == {"val and train": 1, "test and train": 0, "test and val": 0}
    assert kept.train.tolist() == [0, 1]
    dropped, _ = settle_overlap(found, split, "drop")
    assert dropped.train.tolist() == [1]
    # Neighbours touch without sharing a base, unless the window is wider than the region.
    wide = read_examples(LabelledInputs(genome=str(genome), tables={"train": str(path)}, window=200))
    assert settle_overlap(wide, split, "allow")[1] == {"val and train": 1, "test and train": 2, "test and val": 2}


def test_equal_sequences_between_splits(tmp_path: Path) -> None:
    text = "sequence,label,split\nAACC,a,train\nACGG,b,train\nGGTT,a,val\nTTTT,b,val\n"
    found = read_examples(LabelledInputs(tables={"train": table(tmp_path, text)}))
    (split,) = make_splits(found, np.zeros(4, np.int64), SplitRule())
    # The other strand is the same molecule.
    assert settle_overlap(found, split, "allow")[1]["val and train"] == 1


def test_what_does_not_go_together(genome: Path, tmp_path: Path) -> None:
    path = many(tmp_path)
    for inputs, message in (
        (LabelledInputs(), "nothing to learn from"),
        (LabelledInputs(regions=path, tables={"train": path}), "cannot go together"),
        (LabelledInputs(regions=path), "regions need a genome"),
        (LabelledInputs(tables={"val": path}), "no table to train on"),
        (LabelledInputs(fasta={"a": path}, label_column="2"), "FASTA files have no columns"),
    ):
        with pytest.raises(InputError, match=message):
            read_examples(inputs)


def test_lengths_are_checked(genome: Path, tmp_path: Path) -> None:
    found = examples(genome, bed(tmp_path, "chr1 0 20 a", "chr1 100 400 b"))
    found.check_lengths(300)
    with pytest.raises(InputError, match=r"regions\.bed:2: 1 examples are longer than the 299 bp .* 300 bp"):
        found.check_lengths(299)
