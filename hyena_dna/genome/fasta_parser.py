"""The structure of FASTA text, checked block by block.

Within a contig all lines are equally long, except the last, and one kind of line end serves the whole file: that is
what random access needs. Where it holds, the newlines of a block lie at computed positions, so the block is checked and
stripped by array arithmetic, without a loop over lines; where it does not hold, the place is named.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.genome.contig_table import Contig, ContigChunk
from hyena_dna.genome.fasta_faults import explain_forbidden, explain_start
from hyena_dna.genome.sequence import CLEAN, CLEAN_RNA, n_runs

__all__ = ["FastaParser"]

_MAX_HEADER = 1 << 20
_SMALL = 1 << 14
_WRAP = "re-wrap the file: `seqkit seq -w 60 IN > OUT`"
_MIXED = "mixed line ends (LF and CR LF)"
_LINE_ENDS = "write one kind of line end: `tr -d '\\r' < IN > OUT`"


class FastaParser:
    """Turns blocks of plain FASTA data into contigs; the state between two blocks.

    Args:
        path: the file, for messages.
        rna: read U as T.
        sink: receives every piece of every contig.

    Raises:
        InputError: from `feed` and `finish`, where the data are no sound FASTA of nucleotides.
    """

    def __init__(self, path: Path, rna: bool, sink: Callable[[ContigChunk], None] | None) -> None:
        self.contigs: list[Contig] = []
        self.name: str | None = None
        self.bases = 0
        self._path = path
        self._table = CLEAN_RNA if rna else CLEAN
        self._sink = sink
        self._header_lines: dict[str, int] = {}
        self._run_edges = array("q")
        self._total = 0  # bases of finished contigs
        self._eol = b""  # of the whole file; set by its first line
        self._carry = b""
        self._base = 0  # byte offset of the block at hand
        self._started = False
        self._line = 1  # 1-based number of the header line at hand
        self._header: bytearray | None = None
        self._header_offset = 0
        self._begin_contig(0)

    def _begin_contig(self, offset: int) -> None:
        self._offset = offset
        self.bases = 0
        self._line_bases = 0
        self._column = 0  # bases of the line at hand that are read already
        self._ended: str | None = None  # why no more bases may follow in this contig
        self._blank_lines = 0
        self._n_count = self._iupac_count = self._lower_count = 0

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the file."""
        if self._carry:
            block = self._carry + block
            self._carry = b""
        # A block never ends within CR LF, so that line ends can be compared whole.
        if block.endswith(b"\r"):
            block, self._carry = block[:-1], b"\r"
        self._take(block)

    def finish(self) -> None:
        """Close the last contig."""
        self._take(self._carry)
        if self._header is not None:
            self._check_header()
            self._name_contig(self._base)
        if self.name is None:
            raise InputError("no sequences in this file", file=self._path, remedy="a FASTA file begins with '>'")
        self._close()

    def _take(self, block: bytes) -> None:
        at, size = 0, len(block)
        if not self._started:
            at = self._first(block)
        while at < size:
            if self._header is not None:
                end = block.find(b"\n", at)
                self._header += block[at : end if end >= 0 else size]
                if end < 0:
                    if len(self._header) > _MAX_HEADER:
                        self._check_header()
                        raise self._fault("a header line longer than 1 MiB", "is this a FASTA file?", line=self._line)
                    break
                self._end_header(self._base + end + 1)
                at = end + 1
                continue
            end = block.find(b">", at)
            stop = end if end >= 0 else size
            if stop > at and not (end >= 0 and stop - at <= _SMALL and self._small(block, at, stop)):
                self._sequence(block, at, stop)
            at = stop
            if end >= 0:
                if self._column:
                    raise self._forbidden(b">", self.bases + 1, b"")
                if self.name is not None:
                    self._close()
                self._header, self._header_offset, at = bytearray(), self._base + end, end + 1
        self._base += size

    def _first(self, block: bytes) -> int:
        """Skip leading blank lines; refuse what does not begin as FASTA does."""
        text = block.lstrip(b"\r\n")
        at = len(block) - len(text)
        self._line += block.count(b"\n", 0, at)
        if text:
            self._started = True
            if not text.startswith(b">"):
                reason, remedy = explain_start(text)
                raise self._fault(reason, remedy, line=self._line)
        return at

    def _end_header(self, offset: int) -> None:
        """A header line is complete; `offset` is that of the byte after it."""
        assert self._header is not None
        eol = b"\r\n" if self._header.endswith(b"\r") else b"\n"
        if eol == b"\r\n":
            del self._header[-1:]
        self._check_header()
        self._eol = self._eol or eol
        if eol != self._eol:
            raise self._fault(_MIXED, _LINE_ENDS, line=self._line)
        self._name_contig(offset)

    def _check_header(self) -> None:
        assert self._header is not None
        if b"\r" in self._header and not self._eol:
            raise self._fault("lines end in CR alone", "`tr '\\r' '\\n' < IN > OUT`", line=self._line)
        if b"\r" in self._header:
            raise self._fault(_MIXED, _LINE_ENDS, line=self._line)

    def _name_contig(self, offset: int) -> None:
        assert self._header is not None
        words = bytes(self._header).split(None, 1)
        if not words or not self._header.startswith(words[0]):
            raise self._fault("a sequence without a name", "write `>NAME`, no space between", line=self._line)
        self._header = None
        try:
            name = words[0].decode("utf-8")
        except UnicodeDecodeError:
            raise self._fault("a sequence name that is not UTF-8", "rename it in ASCII", line=self._line) from None
        if not name.isprintable():
            raise self._fault(f"control characters in the name {name!r}", "rename the sequence", line=self._line)
        first = self._header_lines.setdefault(name, self._line)
        if first != self._line:
            raise self._fault(
                f"the name {name!r} was used before, on line {first}",
                "give every sequence its own name",
                line=self._line,
            )
        self.name = name
        self._begin_contig(offset)

    def _small(self, block: bytes, at: int, stop: int) -> bool:
        """Take a whole short contig at once; False, with nothing taken, where it is not plainly regular.

        Assemblies of 100,000 short contigs would otherwise spend their time in the handling of first and last lines.
        """
        if self.name is None or self.bases or self._ended or self._eol != b"\n" or block[stop - 1] != 10:
            return False
        lines = block[at : stop - 1].split(b"\n")
        width = len(lines[0])
        if not 0 < len(lines[-1]) <= width or {width, *map(len, lines[:-1])} != {width}:
            return False
        self._line_bases = width
        self._bases(b"".join(lines), block, at, stop)
        return True

    def _sequence(self, block: bytes, at: int, stop: int) -> None:
        """Take `block[at:stop]`, which holds no `>`, as sequence lines of the contig at hand."""
        width = self._line_bases + len(self._eol)
        while at < stop:
            if self._ended:
                self._blank(block, at, stop)
                return
            rows = (stop - at) // width if self._line_bases and not self._column else 0
            if rows:
                lines = np.frombuffer(block, np.uint8, rows * width, at).reshape(rows, width)
                sound = lines[:, -1] == 10
                if len(self._eol) == 2:
                    sound &= lines[:, -2] == 13
                whole = rows if sound.all() else int(sound.argmin())
                self._bases(lines[:whole, : self._line_bases].tobytes(), block, at, stop)
                at += whole * width
                if whole == rows and at == stop:
                    return
            at = self._one_line(block, at, stop)
            width = self._line_bases + len(self._eol)

    def _one_line(self, block: bytes, at: int, stop: int) -> int:
        """Take the rest of one line, or what the block holds of it; return where the next begins."""
        newline = block.find(b"\n", at, stop)
        end = stop if newline < 0 else newline
        if newline >= 0 and len(self._eol) == 2:
            if block[newline - 1 : newline] != b"\r":
                raise self._fault(_MIXED, _LINE_ENDS, line=self._current_line())
            end -= 1
        self._bases(block[at:end], block, at, stop)
        self._column += end - at
        if self._line_bases and self._column > self._line_bases:
            raise self._fault(
                f"uneven line lengths: this line is longer than the first of {self.name}",
                _WRAP,
                line=self._current_line(),
            )
        if newline < 0:
            return stop
        if self._column == 0:
            self._ended = "a blank line"
            self._blank_lines = 1
        elif not self._line_bases:
            self._line_bases = self._column
        elif self._column < self._line_bases:
            self._ended = "a short line"
        self._column = 0
        return newline + 1

    def _blank(self, block: bytes, at: int, stop: int) -> None:
        """Only line ends may follow a contig's last line."""
        rest = block[at:stop]
        newlines = rest.count(b"\n")
        if rest.strip(b"\r\n"):
            line = self._line + self._rows() + (self._ended == "a blank line")
            raise self._fault(f"uneven line lengths: {self._ended} within {self.name}", _WRAP, line=line)
        if rest != self._eol * newlines:
            raise self._fault(_MIXED, _LINE_ENDS, line=self._current_line())
        self._blank_lines += newlines

    def _bases(self, piece: bytes, block: bytes, at: int, stop: int) -> None:
        """Check, count and hand on bases of the contig at hand; they come from the beginning of `block[at:stop]`."""
        if not piece:
            return
        assert self.name is not None
        clean = piece.translate(self._table)
        bad = clean.find(0)
        if bad >= 0:
            if piece[bad] == 10:
                line = self._current_line() + bad // self._line_bases
                raise self._fault(f"uneven line lengths: a short line within {self.name}", _WRAP, line=line)
            raise self._forbidden(piece[bad : bad + 1], self.bases + bad + 1, block[at:stop])
        values = np.frombuffer(clean, np.uint8)
        self._lower_count += int(np.count_nonzero(values > 96))
        if b"N" in clean or b"n" in clean:
            is_n = (values & 0xDF) == 78
            literal = piece.count(b"N") + piece.count(b"n")
            self._n_count += literal
            self._iupac_count += int(np.count_nonzero(is_n)) - literal
            self._add_runs(n_runs(is_n) + (self._total + self.bases))
        if self._sink is not None:
            self._sink(ContigChunk(len(self.contigs), self.name, self.bases, clean))
        self.bases += len(piece)

    def _add_runs(self, runs: NDArray[np.int64]) -> None:
        edges = self._run_edges
        # A run cut by the border of two pieces is one run, one cut by the border of two contigs is two.
        if self.bases and edges and edges[-1] == runs[0, 0]:
            edges[-1] = int(runs[0, 1])
            runs = runs[1:]
        edges.frombytes(runs.tobytes())

    def runs(self) -> NDArray[np.int64]:
        """(runs, 2): the stretches of N found so far."""
        return np.array(self._run_edges, np.int64).reshape(-1, 2)

    def _close(self) -> None:
        assert self.name is not None
        if not self._line_bases:
            self._line_bases = self._column  # a single line, ended by the end of the file
        self.contigs.append(
            Contig(
                self.name,
                self.bases,
                self._total,
                self._header_offset,
                self._offset,
                self._line_bases,
                self._line_bases + len(self._eol) if self._line_bases else 0,
                self._n_count,
                self._iupac_count,
                self._lower_count,
            )
        )
        self._total += self.bases
        self._line += 1 + self._rows() + self._blank_lines
        self._column = 0

    def _rows(self) -> int:
        """Lines of the contig at hand that hold the bases read so far, without the line that is being read."""
        return -(-(self.bases - self._column) // self._line_bases) if self._line_bases else 0

    def _current_line(self) -> int:
        """1-based number of the line that is being read."""
        return self._line + 1 + self._rows() + self._blank_lines

    def _fault(self, reason: str, remedy: str, *, line: int) -> InputError:
        return InputError(reason, file=self._path, line=line, remedy=remedy)

    def _forbidden(self, byte: bytes, position: int, context: bytes) -> InputError:
        reason, remedy = explain_forbidden(byte, context, crlf=len(self._eol) == 2)
        return InputError(reason, file=self._path, contig=self.name, position=position, remedy=remedy)
