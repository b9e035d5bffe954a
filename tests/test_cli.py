"""The command line's promises: exit codes, one-line errors, speed of help, what goes to which stream."""

from __future__ import annotations

import errno
import logging
import resource
import subprocess
import sys
from collections.abc import Sequence

import pytest
import rich_click as click

from hyena_dna.errors import InputError, RunError
from pipelines import cli


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def outcome(
    error: BaseException | int, capsys: pytest.CaptureFixture[str], arguments: Sequence[str] = ()
) -> tuple[int, str]:
    """Exit code and stderr of a command that ends this way."""

    @click.command()
    @click.option("--debug", is_flag=True, expose_value=False)
    def command() -> int:
        if isinstance(error, int):
            return error
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "cli", command)
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert isinstance(stop.value.code, int)
    return stop.value.code, captured.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (InputError("bad base", file="a.fa", contig="chr1", position=7, remedy="fix it"), 2,
         "error: a.fa:chr1:7: bad base (fix it)\n"),
        (InputError("bad\x1b[2J\nname"), 2, "error: bad\\x1b[2J\\nname\n"),
        (RunError("the loss is NaN"), 1, "error: the loss is NaN\n"),
        (KeyboardInterrupt(), 130, "\nerror: interrupted\n"),
        (SystemExit(143), 143, ""),
        (OSError(errno.ENOSPC, "no space"), 2, "error: cannot be read or written: No space left on device\n"),
        (FileNotFoundError(errno.ENOENT, "gone", "a.vcf"), 2,
         "error: a.vcf: cannot be read or written: No such file or directory\n"),
        (OSError("of nothing that a system says"), 1,
         "error: OSError: of nothing that a system says (this is a bug; --debug shows where)\n"),
        (KeyError("x"), 1, "error: KeyError: 'x' (this is a bug; --debug shows where)\n"),
    ],
)  # fmt: skip
def test_exit_codes(error: BaseException | int, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(error, capsys) == (code, message)


def test_traceback_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = outcome(InputError("bad"), capsys, ["--debug"])
    assert code == 2
    assert "Traceback" in text
    assert text.endswith("error: bad\n")


def test_usage_errors_are_one_line() -> None:
    for arguments in (["nothing"], ["--nothing"], ["convert"], ["info", "--nothing"]):
        result = run(*arguments)
        assert result.returncode == 2, arguments
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_help_is_quick_and_complete() -> None:
    run("--help")
    seconds = []
    for _ in range(3):
        # Processor time, which a busy machine does not stretch as it does the time on the wall.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert result.returncode == 0
    for name in cli.COMMANDS:
        assert name in result.stdout
    assert min(seconds) < 0.3


def test_the_list_of_commands_says_what_they_say_of_themselves() -> None:
    for name, line in cli.COMMANDS.items():
        text = cli.load_command(name).help
        assert text is not None
        assert " ".join(text.split("\n\n")[0].split()) == line


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_examples_and_coordinates(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    assert text.count(f"hyena-dna {name}") >= 3  # the usage line and at least two examples
    assert "0-based" in text or "1-based" in text or "no coordinates" in text


def test_version_names_what_it_rests_on() -> None:
    result = run("--version")
    assert result.returncode == 0
    for name in ("hyena-dna", "torch", "pysam", "python"):
        assert name in result.stdout


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m pipelines --help | head -c 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""


def test_quiet_lasts_as_long_as_the_command() -> None:
    from pipelines.options import report_options

    @click.command()
    @report_options
    def command(as_json: bool, quiet: bool) -> int:
        return logging.getLogger("hyena_dna").level

    logger = logging.getLogger("hyena_dna")
    before = logger.level
    assert command.main(["--quiet"], standalone_mode=False) == logging.ERROR
    assert logger.level == before
