"""Tables on stdout."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

UNFOLDED = 10_000  # characters: what goes into a file or a pipe is read line by line, and nothing may be cut off


def print_table(table: Table) -> None:
    """As wide as the terminal, or as the table where there is none. Cells are text: [brackets] are no markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    console.print(table)
