"""The console as people see it: in a pipe, on a terminal (a real pseudo-terminal), and quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from emocluster_jax.console import Console, duration

DEADLINE_S = 30.0


def test_plain_lines_at_start_and_end(capsys):
    console = Console()
    with console.task("preparing recordings", total=3) as task:
        console.line("a result with [brackets]")
        task.advance(2)
        task.advance()
    printed = capsys.readouterr()
    assert printed.out == "a result with [brackets]\n"
    first, last = printed.err.splitlines()
    assert first == "preparing recordings ..."
    assert last.startswith("preparing recordings: done (3, ") and last.endswith(" s)")


def test_plain_lines_appear_while_nothing_advances(capsys):
    """As during compilation: the timer reports, with the innermost task's text."""
    console = Console(interval_s=0.01)
    deadline = time.monotonic() + DEADLINE_S
    reported = ""
    with console.task("training", total=2, note="CCC 0.5") as outer:
        outer.advance()
        outer.describe("stage II")
        with console.task("compiling the training step"):
            while "compiling" not in reported and time.monotonic() < deadline:
                time.sleep(0.01)
                reported += capsys.readouterr().err
    line = next(line for line in reported.splitlines() if "compiling" in line)
    pattern = r"training 1/2 \(\d+ s, \d+\.\dk?/s, \d+ s left\): stage II, CCC 0\.5 \| compiling the training step \("
    assert re.match(pattern, line)


def test_rate_and_estimate_leave_out_waiting_and_what_was_done_before(monkeypatch):
    """A step's chunk costs as much as three that are embedded, so the estimate does not jump between them."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Console(quiet=True).task("epoch 1/3", 700, "chunks", work=1_300.0) as task:
        task.started = now
        task.skip(100)
        assert task.progress == "100/700 chunks (0 s)"
        with task.waiting():
            now += 60
            task.advance(0)
        now += 1
        task.advance(10)
        assert task.progress == "110/700 chunks (61 s, 10.0 chunks/s, 119 s left)"
        now += 19
        task.advance(190)
        assert task.progress == "300/700 chunks (80 s, 10.0 chunks/s, 100 s left)"
        with task.waiting():
            now += 200
            assert task.progress.endswith(", 100 s left)")
        now += 30
        task.advance(100, cost=3)
        assert task.progress == "400/700 chunks (5 min, 5.9 chunks/s, 70 s left)"
    for seconds, said in ((299.4, "299 s"), (300, "5 min"), (7_000, "117 min"), (11_100, "3 h 5 min")):
        assert duration(seconds) == said


def test_a_failed_task_is_not_reported_as_done(capsys):
    with pytest.raises(RuntimeError), Console().task("training"):
        raise RuntimeError
    assert "done" not in capsys.readouterr().err


def test_the_console_can_be_used_again_after_an_error(capsys):
    console = Console()
    with pytest.raises(RuntimeError), console.task("first"):
        raise RuntimeError
    with console.task("second"):
        pass
    assert "second: done" in capsys.readouterr().err


def test_quiet_prints_only_warnings(capsys):
    console = Console(quiet=True)
    with console.task("preparing", total=1) as task:
        task.advance()
        task.describe("on")
        console.line("result")
        console.table("Test", ["attribute", "CCC"], [["arousal", 0.5]])
        console.warn("two recordings were skipped")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "warning: two recordings were skipped\n"


def test_a_warning_is_one_line_whatever_names_are_in_it(capsys):
    Console().warn("no such file (looked for a\nerror: \x1b[2Jé.wav)")
    assert capsys.readouterr().err == "warning: no such file (looked for a\\nerror: \\x1b[2Jé.wav)\n"


def test_table_rounds_aligns_and_keeps_long_cells_on_one_line(capsys):
    name = "a/" * 50 + "recording.wav"
    Console().table("Test", ["file", "CCC"], [[name, 0.61251], ["b.wav", None], ["c.wav", float("nan")]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Test"
    row = next(line for line in lines if "recording.wav" in line)
    assert row.split() == [name, "0.613"]
    missing = [line for line in lines if "b.wav" in line or "c.wav" in line]
    assert [line.split()[-1] for line in missing] == ["-", "-"]
    assert {len(line) for line in missing} == {len(row)}


def test_a_table_loses_nothing_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "5")
    Console().table("Test", ["attribute", "CCC", "RMSE"], [["arousal of the speaker", 0.61251, 1.25]])
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.split() == ["arousal", "of", "0.613", "1.250"] and second.strip() == "the speaker"


def test_a_table_without_rows(capsys):
    Console().table("Test", ["attribute", "CCC"], [])
    assert capsys.readouterr().out.split()[:3] == ["Test", "attribute", "CCC"]


@pytest.mark.parametrize("streams", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_without_streams_nothing_is_said_and_nothing_fails(capsys, monkeypatch, streams):
    """As in a program that was started without a console (`pythonw`)."""
    for name in streams:
        monkeypatch.setattr(f"sys.{name}", None)
    console = Console()
    with console.task("preparing", total=1) as task:
        console.line("result")
        console.table("Test", ["attribute", "CCC"], [["arousal", 0.5]])
        console.warn("careful")
        task.advance()
    printed = capsys.readouterr()
    assert ("result" in printed.out) == ("stdout" not in streams) and "careful" not in printed.out
    assert ("careful" in printed.err) == ("stderr" not in streams)


def test_a_full_stream_fails_nothing(capsys, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        monkeypatch.setattr("sys.stderr", full)
        with Console().task("preparing", total=1) as task:
            Console().line("result")
            task.advance()
        with suppress(OSError):
            full.close()


SCRIPT = """
import sys
from emocluster_jax.console import Console
console = Console()
with console.task("preparing [recordings]", total=2) as task:
    for i in range(2):
        with console.task("inner"):
            console.line(f"line {i} [bold]" + "x" * 150)
        task.advance()
    print("stray print")
console.warn("careful")
"""


def on_terminal(stdout_is_terminal: bool) -> tuple[str, str]:
    """What a pseudo-terminal of 80 columns shows, and what went to stdout where that is a pipe."""
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=child_end if stdout_is_terminal else subprocess.PIPE,
        stderr=child_end,
        env=environment,
    )
    os.close(child_end)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux reports the closed other end this way
            break
        if not part:
            break
        shown += part
    piped = process.stdout.read().decode() if process.stdout else ""
    assert process.wait(timeout=DEADLINE_S) == 0
    os.close(terminal)
    return shown.decode(), piped


def test_bars_on_a_terminal_with_lines_above_them():
    shown, _ = on_terminal(stdout_is_terminal=True)
    assert "preparing [recordings]" in shown
    assert "2/2" in shown
    for i in range(2):
        # Whole and unwrapped, so that commands and paths can be copied.
        assert f"line {i} [bold]" + "x" * 150 in shown
    assert "stray print" in shown
    assert shown.rstrip().endswith("warning: careful")


def test_results_stay_in_the_pipe_while_bars_are_on_the_terminal():
    shown, piped = on_terminal(stdout_is_terminal=False)
    assert piped.splitlines() == [f"line {i} [bold]" + "x" * 150 for i in range(2)] + ["stray print"]
    assert "2/2" in shown and "line 0" not in shown
