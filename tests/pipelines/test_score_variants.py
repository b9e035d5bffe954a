"""Every way in which a VCF can be wrong or unusual, through the command: a status, or one line and exit code 2."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pysam
import pysam.bcftools
import pytest

from hyena_dna.datasets.alleles import WindowSpec, allele_windows
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.variants import STATUSES, Trimmed
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from pipelines import merge, score_variants
from tests.stub_scorer import StubScorer

LENGTH = 4000
CHR1 = "".join(random.Random(7).choices("ACGT", k=LENGTH))
# An N block of 300 bp and one of ambiguity codes, soft-masked letters elsewhere.
CHR2 = CHR1[:1000] + "N" * 300 + CHR1[1300:2000] + "R" + CHR1[2001:2500].lower() + CHR1[2500:]
CONTIGS = f"##contig=<ID=chr1,length={LENGTH}>\n##contig=<ID=chr2,length={LENGTH}>\n"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HEAD = f"##fileformat=VCFv4.2\n{CONTIGS}{COLUMNS}"

Score = Callable[..., "Outcome"]


class Outcome:
    """What a run left behind."""

    def __init__(self, code: int, path: Path, summary: dict[str, Any]) -> None:
        self.code = code
        self.path = path
        self.summary = summary

    @property
    def text(self) -> str:
        return gzip.decompress(self.path.read_bytes()).decode() if self.path.suffix == ".gz" else self.path.read_text()

    @property
    def records(self) -> list[list[str]]:
        return [line.split("\t") for line in self.text.splitlines() if not line.startswith("#")]

    def info(self, key: str) -> list[str]:
        return [dict(item.partition("=")[::2] for item in row[7].split(";")).get(key, "-") for row in self.records]

    @property
    def statuses(self) -> list[str]:
        return self.info("HYENA_STATUS")


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    def prepare(
        model: str | None, window: int | None, device: str, threads: int | None, batch: int | None,
        settings: Mapping[str, Any],
    ) -> tuple[StubScorer, WindowSpec, dict[str, Any], None]:  # fmt: skip
        spec = WindowSpec.make(window or 128, settings["position"], settings["grid"])
        facts = {"version": "0", "model": "stub", "window": spec.window, "grid": spec.grid, "max_n_fraction": 0.1}
        return StubScorer(), spec, facts, None

    monkeypatch.setattr(score_variants, "_prepare", prepare)
    genome = tmp_path / "genome.fa"
    genome.write_text(f">chr1\n{CHR1}\n>chr2\n{CHR2}\n")
    count = 0

    def run(vcf: str | bytes | Path | None, *options: str, suffix: str = ".vcf", fasta: Path = genome) -> Outcome:
        nonlocal count
        count += 1
        path = tmp_path / f"in{count}.vcf"
        if isinstance(vcf, Path):
            path = vcf
        elif vcf is not None:
            path.write_bytes(vcf.encode() if isinstance(vcf, str) else vcf)
        output, summary = tmp_path / f"out{count}{suffix}", tmp_path / f"summary{count}.json"
        source = [] if vcf is None else ["--vcf", str(path)]
        args = [
            "--model",
            "stub",
            "--genome",
            str(fasta),
            *source,
            "-o",
            str(output),
            "--summary",
            str(summary),
            *options,
        ]
        before = set(tmp_path.iterdir())
        try:
            code = score_variants.command.main(args, standalone_mode=False)
        except InputError:
            left = set(tmp_path.iterdir()) - before - {path}
            assert not left, "an error leaves nothing behind"
            raise
        assert not list(tmp_path.glob("*.parts"))
        assert not list(tmp_path.glob(".*tmp*"))
        return Outcome(code, output, json.loads(summary.read_text()))

    return run


def row(
    pos: int, ref: str | None = None, alt: str = "", chrom: str = "chr1", info: str = ".", filters: str = "."
) -> str:
    ref = CHR1[pos - 1] if ref is None else ref
    alt = alt or "ACGT"[("ACGT".index(ref[0].upper()) + 1) % 4]
    return f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t{filters}\t{info}\n"


def fault(score: Score, vcf: str | bytes | Path, *options: str, **other: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        score(vcf, *options, **other)
    return caught.value


def other(base: str, step: int = 1) -> str:
    return "ACGT"[("ACGT".index(base) + step) % 4]


# Rows 55 to 70 of what can be wrong with a VCF: the status that each gets.
STATUS_TABLE = [
    ("55 ref mismatch", row(500, other(CHR1[499])), "ref_mismatch"),
    ("56 ref lower case", row(500, CHR1[499].lower()), "ok"),
    ("56 ref N", row(500, "N", "A"), "ref_not_acgt"),
    ("56 ref ambiguity code", row(500, "R", "A"), "ref_not_acgt"),
    ("56 genome ambiguity code", row(2001, "A", "C", chrom="chr2"), "ref_not_acgt"),
    ("56 genome lower case", row(2200, None, chrom="chr2"), "ok"),
    ("57 deletion", row(500, alt="<DEL>", info="END=600"), "symbolic"),
    ("57 duplication", row(500, alt="<DUP>"), "symbolic"),
    ("57 inversion", row(500, alt="<INV>"), "symbolic"),
    ("57 copy number", row(500, alt="<CNV>"), "symbolic"),
    ("58 gvcf", row(500, alt="<NON_REF>", info="END=600"), "gvcf_block"),
    ("58 star", row(500, alt="<*>"), "gvcf_block"),
    ("59 breakend", row(500, alt=f"{CHR1[499]}[chr2:5["), "breakend"),
    ("60 spanning deletion", row(500, alt="*"), "spanning_deletion"),
    ("61 no alt", row(500, alt="."), "no_alt"),
    ("61 empty alt", f"chr1\t500\t.\t{CHR1[499]}\t\t.\t.\t.\n", "no_alt"),
    ("61 alt is ref", row(500, alt=CHR1[499]), "no_alt"),
    ("62 multi-allelic", row(500, alt=f"{other(CHR1[499])},*,{other(CHR1[499], 2)}"), "ok,spanning_deletion,ok"),
    ("63 bad alt", row(500, alt="T!"), "bad_allele"),
    ("63 bad ref", row(500, "12", "A"), "bad_allele"),
    ("63 ambiguity code in alt", row(500, alt="R"), "bad_allele"),
    ("64 mnv", row(500, CHR1[499:502], "".join(other(base) for base in CHR1[499:502])), "ok"),
    ("64 delins", row(500, CHR1[499:503], other(CHR1[499]) + "A"), "ok"),
    ("66 insertion too long", row(500, alt=CHR1[499] + "A" * 65), "too_long"),
    ("66 deletion too long", row(500, CHR1[499:600], CHR1[499]), "too_long"),
    ("66 longest insertion", row(500, alt=CHR1[499] + "A" * 64), "ok"),
    ("67 left edge", row(10), "ok|edge_padded"),
    ("67 first base", row(1), "ok|edge_padded"),
    ("67 right edge", row(LENGTH - 5), "ok|edge_padded"),
    ("67 last base", row(LENGTH), "ok|edge_padded"),
    ("67 just inside", row(65), "ok"),
    ("68 position 0", "chr1\t0\t.\tA\tC\t.\t.\t.\n", "out_of_range"),
    ("68 one past the end", f"chr1\t{LENGTH + 1}\t.\tA\tC\t.\t.\t.\n", "out_of_range"),
    ("68 far past the end", "chr1\t99999999\t.\tA\tC\t.\t.\t.\n", "out_of_range"),
    ("68 ref past the end", row(LENGTH - 1, CHR1[-2:] + "A", "A"), "out_of_range"),
    ("69 a few N", row(1360, None, chrom="chr2"), "ok"),
    ("69 many N", row(1310, None, chrom="chr2"), "n_fraction"),
    ("70 unknown contig", row(500, chrom="chrUnknown"), "contig_unknown"),
]


@pytest.mark.parametrize(("vcf", "status"), [case[1:] for case in STATUS_TABLE], ids=[case[0] for case in STATUS_TABLE])
def test_each_allele_has_its_status(score: Score, vcf: str, status: str) -> None:
    outcome = score(HEAD + row(3000) + vcf)
    assert outcome.statuses == ["ok", status]
    scores = outcome.info("HYENA_LLR")[1].split(",")
    # A score where and only where the status says so.
    if any(part.startswith("ok") for part in status.split(",")):
        assert [value != "." for value in scores] == [part.startswith("ok") for part in status.split(",")]
    else:
        assert scores == ["-"]
    for part in status.split(","):
        assert outcome.summary["statuses"][part.partition("|")[0]] >= 1
    with pysam.VariantFile(str(outcome.path)) as file:
        assert len(list(file)) == 2


def test_the_table_covers_every_status() -> None:
    shown = {part.partition("|")[0] for case in STATUS_TABLE for part in case[2].split(",")}
    assert shown == set(STATUSES)


def test_mismatches_are_shown_with_what_the_genome_has(score: Score) -> None:
    outcome = score(HEAD + row(500, other(CHR1[499])))
    (example,) = outcome.summary["mismatch_examples"]
    assert (example["line"], example["pos"], example["ref"], example["genome"]) == (5, 500, other(CHR1[499]), CHR1[499])


def test_a_wrong_assembly_stops_the_run(score: Score) -> None:
    good = "".join(row(pos) for pos in range(100, 1000, 2))
    bad = "".join(row(pos, other(CHR1[pos - 1])) for pos in range(1001, 1141, 2))
    assert "wrong assembly?" in str(fault(score, HEAD + good + bad))
    few = "".join(row(pos, other(CHR1[pos - 1])) for pos in range(1001, 1041, 2))
    assert score(HEAD + good + few).summary["statuses"]["ref_mismatch"] == 20
    beyond = "".join(row(len(CHR1) + pos, "A", "C") for pos in range(1, 71))
    assert "wrong assembly? 70 of the first 520 records reach beyond" in str(fault(score, HEAD + good + beyond))
    assert score(HEAD + good + row(len(CHR1) + 1, "A", "C")).summary["statuses"]["out_of_range"] == 1


def test_reference_mismatch_policies(score: Score) -> None:
    genome, wrong = CHR1[499], other(CHR1[499])
    text = HEAD + row(400) + row(500, wrong, f"{genome},{other(genome, 2)}") + row(600)
    plain = score(HEAD + row(500, genome, wrong)).info("HYENA_LLR")[0]
    assert score(text).statuses == ["ok", "ref_mismatch,ref_mismatch", "ok"]
    flipped = score(text, "--on-ref-mismatch", "flip")
    assert flipped.statuses == ["ok", "ok|flipped,ref_mismatch", "ok"]
    assert float(flipped.info("HYENA_LLR")[1].split(",")[0]) == -float(plain)
    skipped = score(text, "--on-ref-mismatch", "skip")
    assert [fields[1] for fields in skipped.records] == ["400", "600"]
    assert skipped.summary["records_left_out"] == 1
    assert fault(score, text, "--on-ref-mismatch", "error").line == 6


def test_equal_variants_get_equal_scores(score: Score) -> None:
    base, changed = CHR1[499], other(CHR1[499])
    text = HEAD + row(499, CHR1[498:500], CHR1[498] + changed) + row(500, base, changed)
    assert len(set(score(text).info("HYENA_LLR"))) == 1
    # Two places of one deletion in a repeat: equal windows where both are moved to the left.
    repeat = next(i for i in range(500, 3000) if CHR1[i] == CHR1[i + 1] == CHR1[i + 2] != CHR1[i - 1])
    text = HEAD + row(repeat, CHR1[repeat - 1 : repeat + 1], CHR1[repeat - 1])
    text += row(repeat + 2, CHR1[repeat + 1 : repeat + 3], CHR1[repeat + 1])
    assert len(set(score(text).info("HYENA_LLR"))) == 2
    assert len(set(score(text, "--normalise").info("HYENA_LLR"))) == 1


def test_all_contigs_unknown_is_an_error_with_a_hint(score: Score) -> None:
    text = "##fileformat=VCFv4.2\n" + COLUMNS + row(500, chrom="1")
    error = fault(score, text)
    assert "'chr1'" in str(error)
    assert "--contig-map" in str(error)
    outcome = score(text, "--contig-map", "ucsc")
    assert outcome.statuses == ["ok"]
    assert outcome.records[0][0] == "1"
    assert "##contig=<ID=1>\n" in outcome.text
    with pysam.VariantFile(str(outcome.path)) as file:
        assert next(file).chrom == "1"


def test_another_contig_length_is_an_error_before_scoring(score: Score) -> None:
    assert "right assembly" in str(fault(score, HEAD.replace("length=4000", "length=4001") + row(500)))


def test_without_contig_lines_the_output_gets_them(score: Score) -> None:
    outcome = score("##fileformat=VCFv4.2\n" + COLUMNS + row(500), suffix=".bcf")
    with pysam.VariantFile(str(outcome.path)) as file:
        assert {name: file.header.contigs[name].length for name in file.header.contigs} == {
            "chr1": LENGTH,
            "chr2": LENGTH,
        }


@pytest.mark.parametrize(
    "text",
    ["", COLUMNS, row(500), "##fileformat=VCFv4.2\n", "\ufeff" + HEAD, "##fileformat=VCFv4.2\n" + row(5)],
)
def test_a_bad_header_is_an_error(score: Score, text: str) -> None:
    fault(score, text)


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf", ".tsv", ".parquet"])
def test_no_records_give_a_header(score: Score, suffix: str) -> None:
    outcome = score(HEAD, suffix=suffix)
    assert outcome.code == 0
    assert outcome.path.exists()
    assert outcome.summary["n_records"] == 0


@pytest.mark.parametrize("bad", ["chr1\tabc\t.\tA\tT\t.\t.\t.\n", "chr1\t5\t.\tA\n", "chr1 5 . A T . . .\n"])
def test_a_malformed_line_far_into_the_file_leaves_nothing(score: Score, bad: str) -> None:
    error = fault(score, HEAD + "".join(row(100 + i % 3000) for i in range(5000)) + bad, suffix=".vcf.gz")
    assert error.line == 5005


def test_unsorted_input_keeps_its_order_and_has_no_index(score: Score, caplog: pytest.LogCaptureFixture) -> None:
    text = HEAD + row(500) + row(300) + row(400, chrom="chr2") + row(600)
    outcome = score(text, suffix=".vcf.gz")
    assert [fields[1] for fields in outcome.records] == ["500", "300", "400", "600"]
    assert not Path(f"{outcome.path}.tbi").exists()
    assert "not sorted" in caplog.text
    assert Path(f"{score(HEAD + row(300) + row(500), suffix='.vcf.gz').path}.tbi").exists()


def test_duplicates_are_scored_and_counted(score: Score) -> None:
    outcome = score(HEAD + row(400) + row(500) + row(500) + row(500) + row(600))
    assert outcome.statuses == ["ok"] * 5
    assert outcome.summary["duplicates"] == 2
    assert len(set(outcome.info("HYENA_LLR")[1:4])) == 1


def test_samples_are_kept_byte_for_byte(score: Score) -> None:
    names = "\t".join(f"S{i}" for i in range(2000))
    calls = "\t".join(f"{i % 2}|{i % 3}:x y;{i}" for i in range(2000))
    line = f"chr1\t500\tid;2\t{CHR1[499].lower()}\t{other(CHR1[499])}\t1e-3\tq1;q2\tA=1;B;C=%3B\tGT:ZZ\t{calls}"
    text = f"##fileformat=VCFv4.2\n{CONTIGS}{COLUMNS.rstrip()}\tFORMAT\t{names}\n{line}\n"
    (fields,) = score(text).records
    given = line.split("\t")
    assert fields[:7] + fields[8:] == given[:7] + given[8:]
    assert fields[7].startswith("A=1;B;C=%3B;HYENA_LLR=")


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: compress_blocks(data) + BGZF_EOF], ids=["gzip", "bgzf"])
def test_compressed_input(score: Score, pack: Callable[[bytes], bytes]) -> None:
    assert score(pack((HEAD + row(500)).encode())).statuses == ["ok"]


@pytest.mark.parametrize("how", ["block cut", "no end block", "gzip cut", "bit flip"])
def test_damaged_input_leaves_nothing(score: Score, how: str) -> None:
    data = (HEAD + "".join(row(100 + i % 3000) for i in range(20000))).encode()
    blocks = compress_blocks(data)
    flipped = bytearray(blocks + BGZF_EOF)
    flipped[len(flipped) // 2] ^= 1
    damaged = {"block cut": blocks[:-900], "no end block": blocks, "gzip cut": gzip.compress(data)[:-900]}
    error = fault(score, damaged.get(how, bytes(flipped)), suffix=".vcf.gz")
    assert error.line is not None
    assert error.line > 1000


def test_text_cut_at_a_line_end_is_told_by_the_count_alone(score: Score, caplog: pytest.LogCaptureFixture) -> None:
    text = HEAD + row(500) + row(600)
    assert score(text).summary["n_records"] == 2
    assert "3 as expected" in str(fault(score, text, "--expect-records", "3"))
    assert score(text, "--expect-records", "2").code == 0
    assert score(text[:-1]).statuses == ["ok", "ok"]
    assert "cut off" in caplog.text


def test_a_stale_index_does_no_harm(score: Score, tmp_path: Path) -> None:
    path = tmp_path / "stale.vcf.gz"
    path.write_bytes(compress_blocks((HEAD + row(500)).encode()) + BGZF_EOF)
    (tmp_path / "stale.vcf.gz.tbi").write_bytes(b"nonsense")
    assert score(path).statuses == ["ok"]


@pytest.mark.parametrize("suffix", [".vcf", ".bcf", ".vcf.gz"])
def test_undeclared_names_are_declared(score: Score, suffix: str) -> None:
    text = "##fileformat=VCFv4.2\n" + COLUMNS + row(500, info="X=1;F", filters="low") + row(600, alt="<DEL>")
    outcome = score(text, suffix=suffix)
    with pysam.VariantFile(str(outcome.path)) as file:
        assert {"X", "F", "END"} <= set(file.header.info)
        assert "low" in file.header.filters
        assert next(file).info["X"] in ("1", ("1",))


def test_fields_of_an_earlier_run_are_replaced_on_request_alone(score: Score) -> None:
    first = score(HEAD + row(500, info="A=1") + row(600))
    assert "--overwrite-field" in str(fault(score, first.path))
    again = score(first.path, "--overwrite-field")
    assert again.records == first.records
    assert again.text.count("##INFO=<ID=HYENA_LLR,") == 1
    assert fault(score, HEAD + row(400) + row(500, info="HYENA_LLR=1")).line == 6


def test_standard_streams(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "stdin.vcf"
    path.write_text(HEAD + row(500) + row(600))
    expected = score(path).text
    capsysbinary.readouterr()
    with open(path, "rb") as handle:
        monkeypatch.setattr(sys, "stdin", handle)
        args = ["--model", "stub", "--genome", str(tmp_path / "genome.fa"), "--vcf", "-", "-o", "-", "-q"]
        score_variants.command.main(args, standalone_mode=False)
    found = capsysbinary.readouterr().out.decode()
    assert [line for line in found.splitlines() if not line.startswith("##hyena")] == [
        line for line in expected.splitlines() if not line.startswith("##hyena")
    ]


def test_each_strand_has_its_own_score(score: Score) -> None:
    deletion = Trimmed(500, CHR1[500:503], "")

    def fetch(interval: Interval) -> bytes:
        return CHR1[interval.start : interval.end].encode()

    made = allele_windows(fetch, LENGTH, deletion, WindowSpec.make(128), chrom="chr1")
    forward, reverse = (StubScorer().score([one]) for one in (made.forward, made.reverse))
    outcome = score(HEAD + row(500, CHR1[499:503], CHR1[499]), suffix=".parquet")
    (found,) = pq.read_table(outcome.path).to_pylist()
    assert (found["llr_fwd"], found["llr_rev"]) == (forward.llr[0], reverse.llr[0])
    assert found["llr_fwd"] != found["llr_rev"]
    assert found["llr"] == (forward.llr[0] + reverse.llr[0]) / 2
    assert found["dist"] == (forward.dist[0] + reverse.dist[0]) / 2
    assert found["llr_norm"] is None


def test_end_before_pos_is_not_used(score: Score) -> None:
    outcome = score(HEAD + row(500, info="END=5") + row(500))
    assert len(set(outcome.info("HYENA_LLR"))) == 1
    assert outcome.statuses == ["ok", "ok"]


def test_tables_have_keys_and_a_row_for_each_allele(score: Score) -> None:
    text = HEAD + row(500, alt=f"{other(CHR1[499])},*") + row(600)
    vcf = score(text)
    tsv = score(text, suffix=".tsv.gz")
    lines = [line.split("\t") for line in tsv.text.splitlines()]
    assert [fields[:6] for fields in lines[1:]] == [
        ["chr1", "500", ".", CHR1[499], other(CHR1[499]), "ok"],
        ["chr1", "500", ".", CHR1[499], "*", "spanning_deletion"],
        ["chr1", "600", ".", CHR1[599], other(CHR1[599]), "ok"],
    ]
    with pysam.TabixFile(str(tsv.path)) as file:
        assert len(list(file.fetch("chr1", 499, 500))) == 2
    table = pq.read_table(score(text, suffix=".parquet").path).to_pydict()
    assert table["llr"] == [pytest.approx(float(lines[1][6])), None, pytest.approx(float(lines[3][6]))]
    assert float(vcf.info("HYENA_LLR")[1]) == pytest.approx(table["llr"][2], rel=1e-5)


def test_single_variants_and_tables_as_input(score: Score, tmp_path: Path) -> None:
    expected = score(HEAD + row(500)).info("HYENA_LLR")
    single = f"chr1:500:{CHR1[499]}:{other(CHR1[499])}"
    found = score(None, "--variant", single)
    assert found.info("HYENA_LLR") == expected
    assert f'--variant {single}"' in found.path.read_text()
    table = tmp_path / "in.tsv"
    table.write_text(f"chrom\tpos\tref\talt\nchr1\t500\t{CHR1[499]}\t{other(CHR1[499])}\n")
    assert score(table).info("HYENA_LLR") == expected


def test_shares_and_tops(score: Score, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEAD + row(500) + row(600) + row(700, alt="*")
    assert score(text, "--max-skipped", "0.3").code == 3
    assert score(text, "--max-skipped", "0.4", "--top", "1").code == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "chrom\tpos\tref\talt\tllr"
    assert len(captured.out.splitlines()) == 2
    assert captured.err.splitlines()[-1] == "3 records, 3 alleles: ok 2, spanning_deletion 1"


def test_an_empty_shard_says_so(score: Score, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "few.vcf"
    path.write_text(HEAD + row(500) + row(600))
    assert score(path, "--shard", "1/2").records == []
    assert "shard 1 of 2 is empty: shards begin at every 4,096th record" in caplog.text
    assert len(score(path, "--shard", "2/2").records) == 2


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf", ".tsv.gz", ".parquet"])
def test_merged_shards_are_the_whole(score: Score, tmp_path: Path, suffix: str) -> None:
    text = HEAD + "".join(row(100 + i // 4, info=f"K{i // 4000}=1") for i in range(12300))
    whole = score(text, suffix=suffix)
    path = tmp_path / "shards.vcf"
    path.write_text(text)
    whole = score(path, suffix=suffix)
    shards = [str(score(path, "--shard", f"{i}/3", suffix=suffix).path) for i in (2, 3, 1)]
    merged = tmp_path / f"merged{suffix}"
    merge.command.main([*shards, "-o", str(merged)], standalone_mode=False)
    assert merged.read_bytes() == whole.path.read_bytes()
    with pytest.raises(InputError, match="shard 2 of 3 is missing"):
        merge.command.main([*shards[1:], "-o", str(merged), "--force"], standalone_mode=False)
    with pytest.raises(InputError, match="no output of"):
        merge.command.main([str(whole.path), "-o", str(merged), "--force"], standalone_mode=False)


def test_a_sample_brings_its_own_neighbours(score: Score) -> None:
    columns = COLUMNS.rstrip() + "\tFORMAT\tS\n"
    deletion = row(500, CHR1[499:502], CHR1[499]).rstrip()

    def scores(neighbour: str, *options: str) -> str:
        lines = f"{deletion}\tGT\t0|1\n{row(520).rstrip()}\tGT\t{neighbour}\n"
        return score(f"##fileformat=VCFv4.2\n{CONTIGS}{columns}{lines}", *options).info("HYENA_LLR")[0]

    plain = scores("0|1")
    assert scores("0|1", "--sample", "S") != plain
    assert scores("1|0", "--sample", "S") == scores("0/1", "--sample", "S") == plain
    with pytest.raises(InputError, match="no sample"):
        scores("0|1", "--sample", "T")


def test_names_of_another_assembly_fail_with_a_clear_line_and_work_with_a_map(
    score: Score, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "na12878_chr20"
    fasta = folder / "ucsc.hg19.chr20.unittest.fasta.gz"
    data = gzip.decompress((folder / "test_nist.b37_chr20_100kbp_at_10mb.vcf.gz").read_bytes())
    ensembl = tmp_path / "ensembl.vcf"
    ensembl.write_bytes(data.replace(b"\nchr20\t", b"\n20\t").replace(b"##contig=<ID=chr", b"##contig=<ID="))
    assert "'chr20'" in str(fault(score, ensembl, fasta=fasta))
    outcome = score(ensembl, "--contig-map", "ucsc", fasta=fasta)
    assert outcome.summary["statuses"] == {"ok": outcome.summary["n_alleles"]}
    assert {fields[0] for fields in outcome.records} == {"20"}


def test_the_report_ranks_measured_effects(score: Score, shared_data: Path, tmp_path: Path) -> None:
    folder, report = shared_data / "brca1", tmp_path / "report.html"
    options = ["--label-field", "SGE_CLASS", "--label-positive", "LOF", "--label-negative", "FUNC"]
    options += ["--group-field", "CONSEQUENCE", "--report", str(report)]
    score(folder / "brca1_sge.vcf.gz", *options, fasta=folder / "brca1_region.fa.gz")
    page = report.read_text("utf-8")
    assert "823 variants are LOF, 2,821 are FUNC" in page
    for word in ("AUROC", "Nonsense", "Synonymous"):
        assert word in page


def test_every_measured_variant_is_scored(score: Score, shared_data: Path) -> None:
    folder = shared_data / "brca1"
    outcome = score(folder / "brca1_sge.vcf.gz", fasta=folder / "brca1_region.fa.gz", suffix=".vcf.gz")
    assert outcome.summary["statuses"] == {"ok": 3893}
    given = gzip.decompress((folder / "brca1_sge.vcf.gz").read_bytes()).decode().splitlines()
    for before, after in zip((line for line in given if line[0] != "#"), outcome.records, strict=True):
        fields = before.split("\t")
        assert after[:7] == fields[:7]
        assert after[7].startswith(fields[7] + ";HYENA_LLR=")
    region = "chr17_hg38_42425000_43600000:620706"
    assert str(pysam.bcftools.view("-H", "-r", region, str(outcome.path))).count("\n") == 3
    assert str(pysam.bcftools.view("-h", str(outcome.path))).count("##hyena-dna=") == 1


@pytest.mark.parametrize(("given", "window"), [([], 1024), (["--window", "max"], 2000), (["--window", "1500"], 1500)])
def test_the_default_window_on_a_cpu_is_short_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: list[str], window: int
) -> None:
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=2002, filter_order=8)), tmp_path / "m")
    (tmp_path / "genome.fa").write_text(f">chr1\n{CHR1}\n>chr2\n{CHR2}\n")
    options = ["--model", str(tmp_path / "m"), "--genome", str(tmp_path / "genome.fa"), "--device", "cpu", *given]
    with caplog.at_level("INFO", "hyena_dna"):
        score_variants.command.main(
            [*options, "--variant", f"chr1:2000:{CHR1[1999]}:{'ACGT'['CGTA'.index(CHR1[1999])]}", "-o",
             str(tmp_path / "x.vcf")], standalone_mode=False,
        )  # fmt: skip
    assert f",window={window}," in (tmp_path / "x.vcf").read_text()
    assert ("windows of 1,024 bp; --window max reads 2,000" in caplog.text) == (not given)
