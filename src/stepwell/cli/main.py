"""The command `stepwell`: parses, calls one function, and turns every mistake into three lines and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from stepwell.cli.errors import closed_pipe, explain_failure, silence_output
from stepwell.cli.warnings import warnings_shown


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: what follows the command's name; the process's own unless given.

    Raises:
        SystemExit: always. 0: done. 2: a mistake in the command, the job or the data, or an output that can't be
            written. 3: training can't go on. 70: a fault of stepwell's own. 128 + n: ended by signal n. 141: the reader
            of the output went away.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that can't write a letter gets "?", not a traceback
    code = 0
    try:
        code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        code = closed_pipe()
    except OSError as error:  # what was still to be written, on a full disk
        code = code or explain_failure(error)
        silence_output()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        from typer import Exit

        from stepwell.cli.app import command

        # Not through the parser's own main(), which would answer a closed pipe or Ctrl-C in its own words.
        try:
            parser = command()
            with warnings_shown(), parser.make_context("stepwell", arguments) as context:
                parser.invoke(context)
        except Exit as done:
            return int(done.exit_code)
        return 0
    except BrokenPipeError:
        raise
    except BaseException as error:
        if "--debug" in arguments:
            import traceback

            traceback.print_exception(error)
        return explain_failure(error)


if __name__ == "__main__":
    main()
