"""The command line `hyena-dna`: finds commands, turns exceptions into exit codes.

Exit codes: 0 done; 1 a bug or a run that failed; 2 bad input or usage; 3 done, but more was skipped than allowed;
130 Ctrl-C; 143 SIGTERM. Errors are one line on stderr; `--debug` shows the traceback.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import rich_click as click
from click.exceptions import NoArgsIsHelpError

from hyena_dna.errors import InputError, RunError, escape

# In the order of a user's journey, each with the first line of its help; the module of a command is its name with
# underscores.
COMMANDS = {
    "simulate": "Write a simulated genome with elements, genes, variants and reads whose truth is known.",
    "pretrain": "Pretrain a DNA language model on a genome.",
    "finetune": "Fine-tune a model to classify sequences or to predict a number of them.",
    "predict": "Predict labels, or a number, with a fine-tuned model.",
    "embed": "Embed regions, sequences or reads: one vector each, or one per bin or base.",
    "likelihood": "Score sequences: log-likelihood, perplexity, bits per base, and tracks of every base.",
    "score-variants": "Score the effect of variants: log P(alternative) - log P(reference), in nats, on both strands.",
    "merge": "Join the outputs of `score-variants --shard 1/n` to `n/n`.",
    "mutagenesis": "Mutate every base of a region to every other one, and score what that does.",
    "inspect": "Look inside a model on one sequence of at most 4,096 bp.",
    "generate": "Sample DNA: each base is drawn from what the model expects after all bases before it.",
    "convert": "Convert a model SRC of any published layout into a model directory DST, or one of ours into theirs.",
    "release": "Make a model directory DST, to pass on, of a finished run RUN.",
    "reproduce": "Rebuild a table of the results page and print it as Markdown, or its numbers with --json.",
    "info": "Say what a model or run directory, or a file of published weights, is; without PATH, list the bundled "
    "models.",
    "doctor": "Check this installation: versions, devices, operators, arithmetic, caches and memory.",
    "bench": "Measure speed, memory and exactness of the operators and models, beside other implementations in one "
    "run.",
}

VERSIONED = ("torch", "lightning", "pysam", "pyfaidx", "numpy")

# What a system refuses because of its files and disks, not of this program.
_REFUSALS = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EROFS,
    errno.ENOSPC, errno.EDQUOT, errno.EIO,
}  # fmt: skip


def load_command(name: str) -> click.Command:
    """A command, from its module."""
    command = importlib.import_module(f"pipelines.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    # Every module calls its command `command`; people call it by the module's name.
    command.name = name
    return command


class _Commands(click.RichGroup):
    """A group that imports a command's module when the command is run; a list of them needs their first lines alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return click.RichCommand(name=cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name and command else None, rest


def versions() -> list[tuple[str, str]]:
    """Names and versions of the program, of what it rests on, and of Python; read without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("hyena-dna", *VERSIONED):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return [*found, ("python", sys.version.split()[0])]


def _print_versions(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(", ".join(f"{name} {found}" for name, found in versions()))
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_versions,
              help="Show the versions of the program and of what it rests on.")  # fmt: skip
def cli() -> None:
    """A long-context DNA language model, from a genome file to answers.

    Coordinates are 0-based half-open in BED, tables and Python, 1-based in VCF and region strings. Results go to files
    or stdout; progress and messages go to stderr. Research use only: not for clinical decisions.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Notes of this project, and only warnings of the libraries it uses.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("hyena_dna").setLevel(logging.INFO)
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        outcome = cli.main(list(arguments), prog_name="hyena-dna", standalone_mode=False)
        # Output that a closed pipe refuses surfaces here rather than in the interpreter's exit handler.
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        # Looked up in the arguments, because errors of parsing need it too.
        if "--debug" in arguments:
            traceback.print_exc()
        code, message = _judge(error)
        if message:
            click.echo(f"error: {message}", err=True)
        return code


def _judge(error: BaseException) -> tuple[int, str]:
    """The exit code of an exception and what to say about it on one line."""
    if isinstance(error, NoArgsIsHelpError):
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2, ""
    if isinstance(error, click.UsageError):
        usage = f"see '{error.ctx.command_path} --help'" if error.ctx else "see --help"
        return 2, f"{escape(error.format_message())} ({usage})"
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, RunError):
        return 1, escape(error)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, BrokenPipeError):
        # The reader went away; the interpreter must not try to flush into the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141, ""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return 2, escape(f"{place}cannot be read or written: {os.strerror(error.errno)}")
    if isinstance(error, MemoryError):
        return 1, "out of memory (a smaller --batch-size or window needs less)"
    return 1, f"{type(error).__name__}: {escape(error)} (this is a bug; --debug shows where)"


if __name__ == "__main__":
    main()
