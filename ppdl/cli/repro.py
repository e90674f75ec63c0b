"""`ppdl repro`: `dvc repro`, with stages that need nothing of each other side by side.

DVC runs one stage at a time. It does let several processes work in one checkout: it gives up its lock while a stage's command runs, and
guards the files of running stages. So each stage here is what `dvc repro --single-item` does, in a process of its own, started as soon
as what it needs is there. What comes out, dvc.lock and cache included, is what `dvc repro` leaves.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess  # nosec B404  # for this interpreter alone
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from rich.table import Table

POLL_S = 0.1
LOGS = Path(".ppdl/repro")
_TORN_LOCK = (
    "If a kill came while DVC wrote dvc.lock, take that file from git (git checkout dvc.lock), or delete it: "
    "stages that had ended are found again in DVC's cache."
)
_SHOWN_BYTES, _SHOWN_LINES = 8000, 40  # of a log's end


@click.command(short_help="`dvc repro`, with stages side by side.")
@click.argument("targets", nargs=-1)
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Stages at a time.")
def repro(targets: tuple[str, ...], jobs: int) -> None:
    """Build what is out of date, as `dvc repro` does, with stages that need nothing of each other side by side.

    TARGETS are stages, such as train_plain or encrypt@opaque; everything by default. What a stage found is printed when it has ended; its
    progress bars and warnings are in .ppdl/repro/STAGE.log. A stage that fails lets the running ones end and starts no further one.

    Ctrl-C stops the running stages, which keep what they can go on from; a second one kills them. Stages side by side need the memory of
    both: on a GPU, or where memory is short, use --jobs 1. To force stages, or to see what would run, use `dvc repro` (--force, --dry).
    """
    _say_out_of_step()
    needs = out_of_date(targets)
    if not needs:
        click.echo("Data and pipelines are up to date.")
        return
    began = time.monotonic()
    lanes = Lanes(needs, LOGS, env=os.environ | shared_cores(jobs))
    with _heeding(lanes.asked), lanes.shown():
        lanes.run(jobs)
    if lanes.asked:
        _end("interrupted; the same command goes on where it stopped", 128 + lanes.asked[0])
    if lanes.failed:
        left = f"; {len(lanes.waiting)} stages were not started" if lanes.waiting else ""
        ends = (f"The end of {lanes.log(name)}:\n\n{end_of(lanes.log(name))}" for name in lanes.failed)
        _end("\n\n".join([f"{' and '.join(lanes.failed)} failed{left}.", *ends]), 1)
    report = "; open reports/report.html" if "evaluate" in lanes.seconds else ""
    click.echo(f"{len(lanes.seconds)} stages in {time.monotonic() - began:.0f} s{report}")


def _say_out_of_step() -> None:
    """Say what differs between params.yaml, which is built, and conf/."""
    from ppdl.config import PROJECT, choices
    from ppdl.errors import ConfigError

    if not Path.cwd().is_relative_to(PROJECT):  # a pipeline of somebody else
        return
    try:
        values = choices.beyond_params()
    except ConfigError as error:
        click.echo(f"Building what params.yaml says. {error}", err=True)
        return
    if values:
        click.echo(
            f"Building what params.yaml says, which conf/ does not: {shlex.join(values)}\n"
            "To build what conf/ says: python -m ppdl.config --write\n"
            f"To keep what params.yaml says, for every command: {choices.keep_command(values)}",
            err=True,
        )


def _end(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    raise SystemExit(exit_code)


def out_of_date(targets: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the stages that may have to run, what is needed first, each with those of them that it needs; go to the project's root.

    Raises:
        ClickException: not in a DVC project, a target that it does not have, or files in the way that somebody handed over.
    """
    if not any((folder / ".dvc").is_dir() for folder in (Path.cwd(), *Path.cwd().parents)):  # before what an extra brings
        raise click.ClickException(f"this needs a checkout, and {Path.cwd()} is in no DVC project: go to one, or clone the repository")
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph

    level = logging.getLogger("dvc").level
    try:
        os.chdir(Repo.find_root())
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with Repo(_wait_for_lock=True) as repo:
            remove_torn_rwlock(Path(repo.tmp_dir))
            graph = get_active_graph(repo.index.graph)  # an edge leads from a stage to one that it needs
            wanted = {stage for target in targets for stage in repo.stage.collect(target)} if targets else set(graph)
            wanted |= {needed for stage in wanted for needed in networkx.descendants(graph, stage)}
            for stage in [stage for stage in wanted if stage.always_changed]:
                repo.reproduce(stage.addressing, single_item=True)  # what it finds says which others are out of date
            changed = repo.status()  # of everything: asked for by name, each stage is looked up anew
    except DvcException as error:
        advice = f"\n{_TORN_LOCK}" if "dvc.lock" in str(error) else ""
        reason = f": {error.__cause__}" if error.__cause__ else ""
        raise click.ClickException(f"{error}{reason}{advice}") from None
    finally:
        logging.getLogger("dvc").setLevel(level)
    stale = {stage for stage in wanted if changed.get(stage.addressing, ["always changed"]) != ["always changed"]}
    stale |= {stage for stage in wanted if stale & networkx.descendants(graph, stage)}
    _refuse_to_delete({Path(out.fs_path) for stage in stale for out in stage.outs if not out.persist})
    order = networkx.dfs_postorder_nodes(graph)
    return {stage.addressing: {s.addressing for s in graph.successors(stage) if s in stale} for stage in order if stage in stale}


def _refuse_to_delete(outs: set[Path]) -> None:
    """Stop before stages delete what somebody handed over and has no copy here.

    Raises:
        ClickException: names it.
    """
    from ppdl.config import PROJECT, private_dir
    from ppdl.config.handed_over import refuse_to_delete
    from ppdl.errors import PpdlError

    if not Path.cwd().is_relative_to(PROJECT):  # a pipeline of somebody else
        return
    try:
        refuse_to_delete(PROJECT, private_dir(), "`ppdl repro`", outs)
    except PpdlError as error:
        raise click.ClickException(str(error)) from None


def remove_torn_rwlock(tmp_dir: Path) -> None:
    """Remove DVC's list of the files in use where a kill came while DVC wrote it: it names none, and DVC refuses it ever after."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = tmp_dir / RWLOCK_FILE
    with make_lock(str(tmp_dir / RWLOCK_LOCK), tmp_dir=str(tmp_dir), wait=True):  # under which DVC reads and writes it
        try:
            json.loads(path.read_text())
        except FileNotFoundError:
            pass
        except ValueError:
            path.unlink()
            click.echo(f"removed {path}, which a kill had left half-written", err=True)


@dataclass
class Lanes:
    """Run stages, several at a time.

    Args:
        needs: the stages, each with those that must have ended before it.
        logs: folder of what they print.
        env: environment variables of the stages.

    Attributes:
        waiting: stages that were not started.
        seconds: of each stage that has ended well.
        failed: stages that ended otherwise.
        asked: signals that ask to stop, which their handler adds.
    """

    needs: Mapping[str, set[str]]
    logs: Path
    env: Mapping[str, str]
    waiting: list[str] = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    _heeded: int = 0
    _running: dict[str, tuple[subprocess.Popen[bytes], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What most has to wait for comes first: the stages before a long chain should not idle behind short ones.
        chains = longest_chains(self.needs)
        self.waiting = sorted(self.needs, key=lambda name: -chains[name])
        self.logs.mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> Path:
        """Return the file that holds progress, warnings and errors of a stage."""
        return self.logs / f"{name}.log"

    def _found(self, name: str) -> Path:
        return self.logs / f"{name}.out"

    def run(self, jobs: int) -> None:
        """Run all, or until one fails or somebody asks to stop. When this ends, also by an exception, none runs any more."""
        try:
            while not self.asked and (self._running or (self.waiting and not self.failed)):
                while not self.failed and len(self._running) < jobs and (ready := self._ready()):
                    self._start(ready)
                time.sleep(POLL_S)
                self._collect()
        finally:
            if self._running and not self.asked:
                self.asked.append(signal.SIGTERM)
            while self._running:
                self._heed()
                time.sleep(POLL_S)
                self._collect()

    def _heed(self) -> None:
        """Tell the running stages once that the user wants to stop, and kill them when that is said again."""
        if len(self.asked) > self._heeded:
            self._heeded += 1
            for process, _ in self._running.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT if self._heeded == 1 else signal.SIGKILL)

    def _ready(self) -> str | None:
        return next((name for name in self.waiting if self.needs[name] <= self.seconds.keys()), None)

    def _start(self, name: str) -> None:
        self.waiting.remove(name)
        command = [sys.executable, "-m", __name__, name]
        with self._found(name).open("wb") as found, self.log(name).open("wb") as log:
            # A session of its own: Ctrl-C reaches a stage once, through `_heed`, and none can wait for input that nobody sees.
            process = subprocess.Popen(  # nosec B603  # no shell; the name of a stage of dvc.yaml
                command, stdin=subprocess.DEVNULL, stdout=found, stderr=log, env=self._env, start_new_session=True
            )
        self._running[name] = process, time.monotonic()

    def _collect(self) -> None:
        for name, (process, began) in list(self._running.items()):
            if process.poll() is None:
                continue
            del self._running[name]
            if self.asked:
                continue
            if process.returncode:
                self.failed.append(name)
                others = f"; it ends when {' and '.join(self._running)} has ended" if self._running else ""
                self._say(f"{name} failed after {time.monotonic() - began:.1f} s{others}")
            else:
                self.seconds[name] = time.monotonic() - began
                self._say(f"{len(self.seconds):2d}/{len(self.needs)}  {name:32}{self.seconds[name]:7.1f} s")
            if found := self._found(name).read_text(errors="replace").rstrip():
                self._say(found)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show each stage that ended on a line, and in a terminal below them what the running ones print."""
        from rich.console import Console
        from rich.live import Live

        console = Console()
        self._say = partial(console.out, highlight=False)
        self._env = {**self.env, "COLUMNS": str(console.width)}  # of the tables that stages print
        live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)
        with live if console.is_terminal else nullcontext():
            yield

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)  # the others keep their widths
        for name, (_, began) in list(self._running.items()):
            table.add_row(name, f"{time.monotonic() - began:.0f} s", Text(end_of(self.log(name)).rpartition("\n")[2]))
        return table


def shared_cores(jobs: int) -> dict[str, str]:
    """Return the variables that keep stages side by side to their share of the cores; one that the user set stays.

    Threads of OpenBLAS and TensorFlow wait for each other busily, so that stages that have a thread a core each spend twice the time.
    """
    import joblib

    num = str(max(1, joblib.cpu_count() // jobs))
    return {name: os.environ.get(name, num) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")}


def longest_chains(needs: Mapping[str, set[str]]) -> dict[str, int]:
    """Return of each stage how many stand at most one behind the other from it to the end; what is needed comes first in `needs`."""
    lengths = dict.fromkeys(needs, 1)
    for name in reversed(list(needs)):
        for needed in needs[name]:
            lengths[needed] = max(lengths[needed], lengths[name] + 1)
    return lengths


def end_of(log: Path) -> str:
    """Return the last lines that a terminal would show of what a stage printed: of a progress bar, its last state."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _SHOWN_BYTES, 0))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return "\n".join(line for line in lines[-_SHOWN_LINES:] if line)


def run_stage(name: str) -> int:
    """Run one stage as DVC does, its dvc.lock and cache included, and return the exit code; DVC says warnings and errors only."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=True) as repo:
            repo.reproduce(name, single_item=True)
    except DvcException as error:
        print(f"{error}: {error.__cause__}" if error.__cause__ else error, file=sys.stderr)
        return 1
    return 0


@contextmanager
def _heeding(asked: list[int]) -> Iterator[None]:
    """Note signals that ask to stop. SIGINT is heeded also where a shell started us in the background, with SIGINT ignored.

    The stages take it up from there: a handler that raises could do so between the start of a stage and the note that it runs.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(run_stage(sys.argv[1]))
