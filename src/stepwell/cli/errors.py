"""Mistakes as three lines on standard error: what happened, what was expected, how to fix it."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from stepwell.core.errors import StepwellError
from stepwell.report.text import plain

__all__ = ["closed_pipe", "explain_failure", "silence_output"]

MISTAKE = 2
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
SIGINT, SIGPIPE = 2, 13

_FULL = ("enough free space on the disk", "Free some space, or choose another folder with --out")
_DENIED = (
    "a file or folder that you may read, and for outputs write",
    "Change its permissions, or choose another folder with --out",
)
_OPERATING_SYSTEM = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: ("a place that can be written", "Choose another folder with --out"),
    errno.ENOENT: ("a path that exists", "Check the spelling, and the folder that the command runs in"),
    errno.EISDIR: ("a file, not a folder", "Give the path of a file"),
    errno.ENOTDIR: ("a folder, not a file", "Give the path of a folder"),
    errno.EEXIST: ("a path that is not taken", "Choose another one"),
    errno.EMFILE: ("fewer open files", "Raise the limit with ulimit -n, or use fewer workers"),
    errno.EIO: ("a disk that works", "Check the disk, or choose another one with --out"),
    errno.ENAMETOOLONG: ("a shorter path", "Choose a shorter name"),
}


def explain_failure(error: BaseException) -> int:
    """Write what went wrong to standard error.

    Args:
        error: whatever ended the command.

    Returns:
        The exit code it stands for.
    """
    if isinstance(error, StepwellError):
        place = f"{error.where}: " if error.where else ""
        return _three(place + error.what, error.expected, error.fix, error.exit_code)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        fix = "Run it again; a training run that had begun goes on with stepwell resume RUN"
        return _three("interrupted", "the command to be left to finish", fix, 128 + SIGINT)
    if _is_usage(error):
        return _usage(error)
    if isinstance(error, OSError) and error.errno in _OPERATING_SYSTEM:
        expected, fix = _OPERATING_SYSTEM[error.errno]
        path = f"{error.filename}: " if error.filename is not None else ""
        return _three(f"{path}{os.strerror(error.errno)}", expected, fix, MISTAKE)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        fix = "Set recipe.micro_batch_size to a part of the batch size (the weights stay the same), or take a smaller model"
        return _three("there is not enough memory for this job", "a job that fits into the memory of this machine", fix, MISTAKE)
    told = str(error).strip().splitlines()
    what = f"unexpected {type(error).__name__}" + (f": {told[0]}" if told else "")
    return _three(what, "no such thing: this is a fault in stepwell", "Run again with --debug for the details", INTERNAL)


def closed_pipe() -> int:
    """The reader of our output went away, as in `stepwell techniques | head -1`: no error to speak of."""
    silence_output()
    return 128 + SIGPIPE


def silence_output() -> None:
    """Nothing more can be written: the interpreter flushes standard output once more when it ends, and would complain then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_usage(error: BaseException) -> bool:
    # The parser comes with typer under one name in old releases and another in new ones; its errors look alike.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "stepwell"
    verbs = getattr(context.command, "list_commands", None) if context is not None else None
    if verbs is not None:
        expected = "one of the verbs " + ", ".join(verbs(context))
    else:
        expected = context.command.get_usage(context).removeprefix("Usage: ") if context is not None else "stepwell VERB"
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:  # a bare `stepwell`: the help is the answer
        print(context.get_help(), file=sys.stderr)
        return int(error.exit_code)
    message = " ".join(error.format_message().split())
    option = getattr(error, "option_name", None)
    if option == "--resume":  # what other trainers call it; the nearest option would be a wrong hint
        return _three(f"No such option: {option}", expected, "To go on with a run: stepwell resume RUN", int(error.exit_code))
    return _three(message, expected, f"See {path} --help", int(error.exit_code))


def _three(what: str, expected: str, fix: str, code: int) -> int:
    try:
        for label, text in (("error", what), ("expected", expected), ("fix", fix)):
            print(f"{label + ':':<9} {' '.join(plain(text, keep=chr(10)).split())}", file=sys.stderr)
    except OSError:  # nobody reads standard error; the exit code still tells
        pass
    return code
