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

from emocluster_jax.console import Console, audio_duration, counted, duration

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
    assert re.match(r"training 1/2 \(\d+ s\): stage II, CCC 0\.5 \| compiling the training step \(", line)


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
        assert task.progress == "110/700 chunks (61 s)"  # the first ones may be slower than any other
        now += 1
        task.advance(10)
        assert task.progress == "120/700 chunks (62 s)"  # too soon to say
        now += 18
        task.advance(180)
        assert task.progress == "300/700 chunks (80 s, 10.0 chunks/s, 100 s left)"
        with task.waiting():
            now += 200
            assert task.progress == "300/700 chunks (280 s)"
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


def test_counts_and_durations_in_words():
    assert [counted(count, "epoch") for count in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
    assert [audio_duration(hours) for hours in (12.345, 0.1, 0.04)] == ["12.35 h", "0.10 h", "2.4 min"]


LONG_LINE = "Network: of the published width, with 52,980 parameters, and a description that is longer than a line"
SCRIPT = """
from emocluster_jax.console import Console
console = Console()
with console.task("preparing [recordings]", total=2) as task:
    for i in range(2):
        with console.task("inner"):
            console.command(f"line {i} [bold]" + "x" * 150)
        task.advance()
    print("stray print")
console.line("LONG_LINE")
console.warn("careful")
""".replace("LONG_LINE", LONG_LINE)

EPOCH = """
import time
from emocluster_jax.console import Console
with Console().task("epoch 3/20", 1694, "chunks", note="CCC 0.000") as task:
    task.started -= 100
    task.advance(700)
    task.describe("stage II: compiling")
    with task.waiting():
        time.sleep(0.3)
    task.started -= 3
    task.advance(708)
    task.describe("stage II: training")
    time.sleep(0.3)
"""


def on_terminal(script: str, columns: int = 80, stdout_is_terminal: bool = True) -> tuple[str, str]:
    """What a pseudo-terminal shows, and what went to stdout where that is a pipe."""
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
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
    shown, _ = on_terminal(SCRIPT)
    assert "preparing [recordings]" in shown
    assert "2/2" in shown
    for i in range(2):
        # Whole and unwrapped, so that commands and paths can be copied.
        assert f"line {i} [bold]" + "x" * 150 in shown
    assert "stray print" in shown
    assert "52,980 parameters, and a description that\r\n  is longer than a line\r\n" in shown
    assert shown.rstrip().endswith("warning: careful")


@pytest.mark.parametrize(
    ("columns", "training", "bars"),
    [
        (60, r"1 s .*…", {0}),
        (80, r"1 s left\): stage II: tr.*…", {0, 11}),
        (130, r"1 s left\): stage II: training, CCC 0\.000  *[━╸╺]+", {24}),
    ],
)
def test_a_running_task_is_one_line_in_which_the_bar_goes_first(columns, training, bars):
    shown, _ = on_terminal(EPOCH, columns)
    assert "\x1b[1A" not in shown  # up one line, as a display of several begins anew
    lines = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", shown)) if line]
    assert max(map(len, lines)) <= columns
    start = r". epoch 3/20 1408/1694 chunks \(10\d s, 23\d\.\d chunks/s, "
    assert any(re.fullmatch(start + training, line) for line in lines)
    assert {len(re.findall("[━╸╺]", line)) for line in lines if "/1694" in line} == bars


def test_results_stay_in_the_pipe_while_bars_are_on_the_terminal():
    shown, piped = on_terminal(SCRIPT, stdout_is_terminal=False)
    commands = [f"  line {i} [bold]" + "x" * 150 for i in range(2)]
    assert piped.splitlines() == [*commands, "stray print", LONG_LINE]
    assert "2/2" in shown and "line 0" not in shown
