"""A lineage as a picture: columns from file to result, in SVG that takes the colour of the page around it."""

from __future__ import annotations

from html import escape

from medisync.runs.lineage import KINDS, Lineage, Node

COLUMN, ROW, BOX_WIDTH, BOX_HEIGHT, MARGIN = 220, 52, 190, 38, 16
LETTERS = 27
"""So many fit into a box."""

MOST_IN_A_COLUMN = 12


def picture(lineage: Lineage) -> str:
    """SVG with a title and a description; what does not fit into a column is counted."""
    columns = [[one for one in lineage.nodes if one.kind == kind] for kind in KINDS]
    columns = [column for column in columns if column]
    places: dict[str, tuple[float, float]] = {}
    boxes: list[str] = []
    rows = max(min(len(column), MOST_IN_A_COLUMN + 1) for column in columns)
    for x, column in enumerate(columns):
        shown = column[:MOST_IN_A_COLUMN]
        offset = (rows - min(len(column), MOST_IN_A_COLUMN + 1)) / 2
        for y, node in enumerate(shown):
            places[node.id] = (MARGIN + x * COLUMN, MARGIN + (y + offset) * ROW)
            boxes.append(_box(node, *places[node.id]))
        if len(column) > len(shown):
            left, top = MARGIN + x * COLUMN, MARGIN + (len(shown) + offset) * ROW
            more = f"and {len(column) - len(shown)} more"
            boxes.append(f'<text x="{left + 8:g}" y="{top + 23:g}">{more}</text>')
    lines = [_line(places[first], places[then]) for first, then in lineage.edges if first in places and then in places]
    width, height = 2 * MARGIN + (len(columns) - 1) * COLUMN + BOX_WIDTH, 2 * MARGIN + rows * ROW
    described = escape("; ".join(f"{one.kind} {one.name}" for one in lineage.nodes[:30]), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11" fill="currentColor" aria-label="{escape(lineage.of, quote=True)}: {described}">'
        f"<title>Lineage of {escape(lineage.of)}</title>"
        f'<g fill="none" stroke="currentColor" stroke-opacity="0.45">{"".join(lines)}</g>{"".join(boxes)}</svg>'
    )


def _box(node: Node, x: float, y: float) -> str:
    name = node.name if len(node.name) <= LETTERS else f"{node.name[: LETTERS - 1]}…"
    hover = escape(f"{node.kind} {node.name} {node.detail}".strip())
    return (
        f'<g><title>{hover}</title><rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" '
        f'fill="none" stroke="currentColor"/><text x="{x + 8:g}" y="{y + 15:g}" fill-opacity="0.7">{node.kind}</text>'
        f'<text x="{x + 8:g}" y="{y + 30:g}">{escape(name)}</text></g>'
    )


def _line(first: tuple[float, float], then: tuple[float, float]) -> str:
    if then[0] >= first[0]:
        x1, x2 = first[0] + BOX_WIDTH, then[0]
    else:
        x1, x2 = first[0], then[0] + BOX_WIDTH
    y1, y2 = first[1] + BOX_HEIGHT / 2, then[1] + BOX_HEIGHT / 2
    middle = (x1 + x2) / 2
    return f'<path d="M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"/>'
