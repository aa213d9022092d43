"""The rows of a table as markup: tens of thousands of cells, which a template takes longer to write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from reports.view import Cell, Column, Row, Table

# Layouts in which, on paper, a cell's detail runs on in its line: a box of its own costs as much as the figure.
_RUNNING = frozenset({"digest", "standing"})


def marked(cell: Cell) -> Markup:
    """Return a cell's text with its mark."""
    return Markup(_marked(cell))  # noqa: S704 - its values are escaped


def cell_markup(cell: Cell) -> Markup:
    """Return what stands in a cell: its text, linked or marked, its second line, and the links below."""
    return Markup(_inner(cell))  # noqa: S704 - its values are escaped


def table_bodies(table: Table, rows: Sequence[Row], medium: str) -> Markup:
    """Return rows of a table, each value escaped.

    On the page every row is a body, which the script sorts and filters. On paper only rows of several lines have one of
    their own, so that they stay together: each costs layout.

    Args:
        table: whose columns say which cells are numbers.
        rows: those to write, of `table.rows`.
        medium: "html" or "pdf".
    """
    write = _on_page if medium == "html" else _on_paper
    return Markup("".join(write(table, rows)))  # noqa: S704 - its values are escaped


def _on_page(table: Table, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        group = f' data-group="{_escaped(row.group)}"' if row.group else ""
        command = f' <code class="command-again">{_escaped(row.command)}</code>' if row.finding else ""
        yield f"\n<tbody{group}>{_lines(table, row, note=command, sort=True, running=False)}\n</tbody>"


def _on_paper(table: Table, rows: Sequence[Row]) -> Iterator[str]:
    running = table.layout in _RUNNING
    opened = False
    for row in rows:
        finding = f" ({_escaped(row.finding)})" if row.finding else ""
        lines = _lines(table, row, note=finding, sort=False, running=running)
        if row.head or row.note:
            yield f'{_closed(opened)}\n<tbody class="together">{lines}\n</tbody>'
            opened = False
        else:
            yield lines if opened else f"\n<tbody>{lines}"
            opened = True
    yield _closed(opened)


def _closed(opened: bool) -> str:  # noqa: FBT001 - private
    return "\n</tbody>" if opened else ""


def _lines(table: Table, row: Row, *, note: str, sort: bool, running: bool) -> str:
    width = len(table.columns)
    head = f'\n<tr class="head"><td colspan="{width}">{_escaped(row.head)}</td></tr>' if row.head else ""
    cells = "".join(
        _cell(cell, None if not n else column, sort=sort, running=running)
        for n, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True))
    )
    below = f'\n<tr class="note"><td colspan="{width}">{_escaped(row.note)}{note}</td></tr>' if row.note else ""
    return f"{head}\n<tr>{cells}\n</tr>{below}"


def _cell(cell: Cell, column: Column | None, *, sort: bool, running: bool) -> str:
    """Return a cell; without a column it is the row's header."""
    kind = ' class="unbroken"' if cell.unbroken else ' class="num"' if column is not None and column.numeric else ""
    value = f' data-sort="{_escaped(cell.sort)}"' if sort and cell.sort else ""
    if column is None:
        return f'\n<th scope="row"{kind}{value}>{_inner(cell, running=running)}</th>'
    return f"\n<td{kind}{value}>{_inner(cell, running=running)}</td>"


def _inner(cell: Cell, *, running: bool = False) -> str:
    if cell.href:
        text = f'<a href="#{_escaped(cell.href)}">{_marked(cell)}</a>'
    elif cell.code:
        text = f"<code>{_escaped(cell.text)}</code>"
    else:
        text = _marked(cell)
    if cell.detail:
        text += _running(cell.detail) if running else f'<span class="detail">{_escaped(cell.detail)}</span>'
    if cell.links:
        links = "; ".join(f'<a href="#{_escaped(link.href)}">{_escaped(link.text)}</a>' for link in cell.links)
        text += f'<span class="links">{links}</span>'
    return text


def _running(detail: str) -> str:
    return f" {_escaped(detail)}" if detail.startswith("[") else f" ({_escaped(detail)})"


def _marked(cell: Cell) -> str:
    text = _escaped(cell.text)
    return f'<span class="mark mark-{_escaped(cell.mark)}">{text}</span>' if cell.mark else text


def _escaped(text: str) -> str:
    # Most are numbers and words, for which looking is cheaper than escaping.
    if "&" in text or "<" in text or ">" in text or "'" in text or '"' in text:
        return str(escape(text))
    return text
