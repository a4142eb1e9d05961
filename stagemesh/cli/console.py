"""Where the command writes: answers to stdout, everything else to stderr; no animation off a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

# Files and pipes have no width of their own; lines of a log should not break at 80 columns.
_PIPE_WIDTH = 160


def out() -> Console:
    """The console for what a verb answers."""
    return _console(stderr=False)


def err() -> Console:
    """The console for progress and problems."""
    return _console(stderr=True)


def table(console: Console, *columns: str, title: str = "") -> Table:
    """An empty table: with lines on a terminal, plain columns elsewhere."""
    style = box.ROUNDED if console.is_terminal else None
    found = Table(box=style, title=title or None, title_justify="left", pad_edge=bool(style), highlight=False)
    for column in columns:
        found.add_column(column, overflow="fold")
    return found


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
