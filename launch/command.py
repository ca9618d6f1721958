"""How commands run and end.

Exit status: 0 done; 1 a defect of this project, with a traceback; 2 a request that cannot be carried out; 3 done, all
files are written, but some output was lost (stdout or stderr is full, or its reader has gone); 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, NoReturn

from emocluster_jax.errors import InputError
from emocluster_jax.runtime.child_processes import end_with_parent
from launch.options import as_options
from launch.signals import PATIENCE_S, Terminated, heeded, interruption
from launch.streams import independent

if TYPE_CHECKING:
    from emocluster_jax.console import Console

_NOT_ALL_PRINTED = 3
_TOGETHER_S = 5.0


def run(main: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Runs a command, and exits with one line and no traceback where the user, not the program, has to act.

    The text of the command's KeyboardInterrupt, if any, says how to go on. `patience_s` is that of `heeded`.
    """
    end_with_parent()
    with independent() as lost, heeded(patience_s):
        try:
            _run(main)
        except SystemExit as end:
            if end.code or not lost():
                raise
        if reasons := lost():
            _end_with_losses(reasons)


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except InputError as error:
        _end(f"error: {as_options(str(error))}", 2)
    except KeyboardInterrupt as signal:
        _end_by(signal)
    except Exception:
        # A signal may leave a lock in a state of which Python then complains: "cannot release un-acquired lock".
        if signal := interruption():
            _end_by(signal)
        if not _is_one_of_several():
            raise
        traceback.print_exc()
        _leave(1)


def console(quiet: bool, interval_s: float = 10.0) -> Console:
    """The console of a command, which prints options in place of settings."""
    from emocluster_jax.console import Console

    return Console(quiet, interval_s, wording=as_options)


def choose_deterministic_algorithms() -> None:
    """Has XLA take only algorithms that give the same bits each time on GPUs; elsewhere it changes nothing.

    XLA reads this option (of JAX 0.10 and 0.11) when it first compiles. It then no longer measures which algorithm is
    the fastest, either, and so makes the same choice in every process.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".lstrip()


def _end_by(signal: KeyboardInterrupt) -> NoReturn:
    word, status = ("terminated", 143) if isinstance(signal, Terminated) else ("interrupted", 130)
    _end("; ".join(filter(None, (word, str(signal)))), status)


def _end_with_losses(lost: Mapping[str, OSError]) -> NoReturn:
    # A reader that has gone (`| head`) has read what it wanted.
    reasons = [f"{name}: {error.strerror}" for name, error in lost.items() if not isinstance(error, BrokenPipeError)]
    if not reasons:
        _leave(_NOT_ALL_PRINTED)
    _end(f"error: not all output could be printed ({', '.join(reasons)}); all else is done", _NOT_ALL_PRINTED)


def _end(line: str, status: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends this process. If it is one of several, it waits some seconds for the others.

    At exit JAX would wait much longer, while they may wait for this process, until all are aborted. Without any wait,
    the end of the first process would abort others that are about to report the same error.
    """
    if not _is_one_of_several():
        sys.exit(status)
    import jax

    from emocluster_jax.runtime import parallel

    # Before they have met there is nothing to shut down, and JAX would complain.
    if parallel.have_met():
        together = Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(_TOGETHER_S)
    os._exit(status)


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
