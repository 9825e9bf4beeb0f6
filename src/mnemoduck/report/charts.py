"""Charts as SVG, drawn for a given width. Colours are classes, which the style makes light or dark.

Trees of ElementTree, so that no text can become a tag or an attribute; each chart has a title and a
description for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from mnemoduck.report.layout import place_nodes
from mnemoduck.report.texts import count

FULL = 1_100.0
WIDE = 560.0
NARROW = 320.0
"""Widths that charts are drawn for, CSS pixels: a whole wide page, half of one, and a phone."""

_CHARACTER = 6.1
"""About how wide a character of a label is, pixels, at the 11 pixels that labels have."""


@dataclass(frozen=True)
class Series:
    """A name and the class that gives it its colour."""

    name: str
    css: str


class Drawing:
    """An SVG image to put shapes on; numbers are rounded, so that the same drawing is the same text."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self._root = Element(
            "svg", {"viewBox": f"0 0 {_number(width)} {_number(height)}", "role": "img", "aria-label": title}
        )

    def add(self, tag: str, css: str, *, tip: str = "", **attributes: float | str) -> Element:
        """Add a shape; an underscore in the name of an attribute stands for a hyphen."""
        shape = SubElement(self._root, tag, {"class": css})
        for name, value in attributes.items():
            shape.set(name.replace("_", "-"), value if isinstance(value, str) else _number(value))
        if tip:
            SubElement(shape, "title").text = tip
        return shape

    def text(self, x: float, y: float, words: str, css: str = "label", anchor: str = "start") -> None:
        self.add("text", css, x=x, y=y, text_anchor=anchor).text = words

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.add("line", css, x1=x1, y1=y1, x2=x2, y2=y2)

    @property
    def markup(self) -> Markup:
        return Markup(tostring(self._root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped it


def in_both_widths(draw: Callable[[float], Drawing], wide: float = WIDE) -> Markup:
    """Return a chart as drawn for a wide and for a narrow page; the style shows the one that fits."""
    return Markup(
        '<div class="chart {}"><div class="wide">{}</div><div class="narrow">{}</div></div>'
    ).format("half" if wide == WIDE else "full", draw(wide).markup, draw(NARROW).markup)


def stacked_bars(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    values: Sequence[Sequence[float]],
    tips: Sequence[str],
) -> Markup:
    """Draw a bar for each label, of a part for each series; `values` has a row for each bar."""

    def draw(width: float) -> Drawing:
        drawing = Drawing(width, 220, title)
        top = max((sum(row) for row in values), default=0)
        ticks = _ticks(top)
        left = 10 + _CHARACTER * max(len(count(tick)) for tick in ticks)
        frame = _Frame(left, 12, width - 4, 190, ticks[-1])
        _draw_scale(drawing, frame, ticks, count)
        step = (frame.right - frame.left) / max(1, len(values))
        bar = min(max(step * 0.78, step - 6), 44)
        for place, row in enumerate(values):
            x = frame.left + step * place + (step - bar) / 2
            below = 0.0
            for one, value in zip(series, row, strict=True):
                if value:
                    y = frame.y(below + value)
                    drawing.add(
                        "rect", one.css, x=x, y=y, width=bar, height=frame.y(below) - y, tip=tips[place]
                    )
                    below += value
        _draw_labels(
            drawing, frame, labels, [frame.left + step * (place + 0.5) for place in range(len(labels))]
        )
        return drawing

    return in_both_widths(draw)


def curves(
    title: str,
    lines: Sequence[tuple[Series, Sequence[tuple[float, float]], tuple[float, float] | None, str]],
) -> Markup:
    """Draw shares (0 to 1) over days; of each line its points, the point at which it ends, and its tip."""
    horizon = max((points[-1][0] for _, points, _, _ in lines if points), default=1.0)

    def draw(width: float) -> Drawing:
        drawing = Drawing(width, 240, title)
        frame = _Frame(42, 12, width - 10, 196, 1.0)
        _draw_scale(drawing, frame, [0, 0.25, 0.5, 0.75, 1], lambda share: f"{share:.0%}")

        def at(point: tuple[float, float]) -> tuple[float, float]:
            return frame.left + (frame.right - frame.left) * point[0] / horizon, frame.y(point[1])

        for one, points, end, tip in lines:
            path = " L".join(f"{_number(x)} {_number(y)}" for x, y in map(at, points))
            if path:
                drawing.add("path", f"{one.css} line", d=f"M{path}", tip=tip)
            if end:
                x, y = at(end)
                drawing.add("circle", f"{one.css} end", cx=x, cy=y, r=4.5, tip=f"{tip}; forgotten here")
        parts = 4 if width > NARROW else 2
        days = [horizon * part / parts for part in range(parts + 1)]
        _draw_labels(
            drawing,
            frame,
            ["now", *(f"{count(day)} days" for day in days[1:])],
            [at((day, 0.0))[0] for day in days],
        )
        return drawing

    return in_both_widths(draw)


def graph(
    title: str,
    nodes: Sequence[tuple[str, float, str, str]],
    edges: Sequence[tuple[int, int, float]],
    *,
    narrow_nodes: int,
) -> Markup:
    """Draw a graph: of each node its label, its strength (0 to 1), its class and its tip.

    The narrow drawing has only the first of the nodes, for as many labels as can be read there.
    """

    def draw(width: float) -> Drawing:
        is_narrow = width <= NARROW
        shown = nodes[:narrow_nodes] if is_narrow else nodes
        kept = [edge for edge in edges if max(edge[:2]) < len(shown)]
        size = (NARROW, 380.0) if is_narrow else (FULL, 520.0)
        drawing = Drawing(*size, title)
        places = _place(len(shown), kept, size)
        for source, target, strength in kept:
            (x1, y1), (x2, y2) = places[source], places[target]
            drawing.add(
                "line", "edge", x1=x1, y1=y1, x2=x2, y2=y2,
                stroke_width=0.8 + 3.2 * strength, stroke_opacity=0.4 + 0.5 * strength,
            )  # fmt: skip
        for (x, y), (_, strength, css, tip) in zip(places, shown, strict=True):
            drawing.add("circle", f"{css} node", cx=x, cy=y, r=4 + 9 * math.sqrt(strength), tip=tip)
        for (x, y), words in _free_labels(places, shown, size):
            drawing.text(x, y, words, "node-label", "middle")
        return drawing

    return in_both_widths(draw, FULL)


def heat_strip(
    title: str,
    rows: Sequence[tuple[str, Sequence[tuple[float, str, str]]]],
    labels: Sequence[str],
    *,
    narrow_columns: int,
) -> Markup:
    """Draw rows of cells, of each cell its share of the highest (0 to 1), its class and its tip."""

    def draw(width: float) -> Drawing:
        is_narrow = width <= NARROW
        columns = min(len(labels), narrow_columns) if is_narrow else len(labels)
        size = NARROW if is_narrow else FULL
        drawing = Drawing(size, 46.0 * len(rows) + 22, title)
        step = size / max(1, columns)
        for place, (name, cells) in enumerate(rows):
            y = 46.0 * place
            drawing.text(0, y + 13, name, "label strong")
            for column, (share, css, tip) in enumerate(cells[-columns:]):
                drawing.add(
                    "rect", f"cell {css}", x=column * step + 1, y=y + 19, width=step - 2, height=20,
                    fill_opacity=0.08 if not share else 0.2 + 0.8 * share, tip=tip,
                )  # fmt: skip
        frame = _Frame(0, 0, size, 46.0 * len(rows), 1.0)
        _draw_labels(drawing, frame, labels[-columns:], [(column + 0.5) * step for column in range(columns)])
        return drawing

    return in_both_widths(draw, FULL)


def meter(share: float, css: str = "c1") -> Markup:
    """Draw a share (0 to 1) as a small bar beside its number, which says the same."""
    drawing = Drawing(60, 8, "")
    drawing.add("rect", "track", x=0, y=0, width=60, height=8, rx=4)
    if share > 0:
        drawing.add("rect", css, x=0, y=0, width=max(2.0, 60 * min(1.0, share)), height=8, rx=4)
    return Markup('<span class="meter" aria-hidden="true">{}</span>').format(drawing.markup)


@dataclass(frozen=True)
class _Frame:
    """Where the values of a chart are drawn: from `bottom` (0) up to `top` (`most`)."""

    left: float
    top: float
    right: float
    bottom: float
    most: float

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * value / (self.most or 1)


def _draw_scale(drawing: Drawing, frame: _Frame, ticks: Sequence[float], say: Callable[[float], str]) -> None:
    for tick in ticks:
        drawing.line(frame.left, frame.y(tick), frame.right, frame.y(tick), "axis" if tick == 0 else "grid")
        drawing.text(frame.left - 6, frame.y(tick) + 4, say(tick), anchor="end")


def _draw_labels(drawing: Drawing, frame: _Frame, labels: Sequence[str], places: Sequence[float]) -> None:
    """Write labels below the frame; only as many as do not touch, the last one among them."""
    end = math.inf
    for x, label in reversed(list(zip(places, labels, strict=True))):
        half = len(label) * _CHARACTER / 2
        middle = min(max(x, half), drawing.width - half)
        if middle + half + 8 <= end:
            drawing.text(middle, frame.bottom + 17, label, anchor="middle")
            end = middle - half


def _place(
    nodes: int, edges: Sequence[tuple[int, int, float]], size: tuple[float, float]
) -> list[tuple[float, float]]:
    margin_x, margin_y = 56.0, 26.0
    inner = (size[0] - 2 * margin_x, size[1] - 2 * margin_y)
    return [(x + margin_x, y + margin_y) for x, y in place_nodes(nodes, edges, inner)]


def _free_labels(
    places: Sequence[tuple[float, float]],
    nodes: Sequence[tuple[str, float, str, str]],
    size: tuple[float, float],
) -> list[tuple[tuple[float, float], str]]:
    """Return where labels are written: below or above their node, the strongest first, none over another."""
    taken: list[tuple[float, float, float, float]] = []
    labels = []
    for (x, y), (words, strength, _, _) in zip(places, nodes, strict=True):
        radius = 4 + 9 * math.sqrt(strength)
        half = len(words) * _CHARACTER / 2 + 2
        middle = min(max(x, half), size[0] - half)
        for baseline in (y + radius + 12, y - radius - 4, y + radius + 24, y - radius - 16):
            box = (middle - half, baseline - 11, middle + half, baseline + 3)
            if baseline < 11 or baseline > size[1] - 3 or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            labels.append(((middle, baseline), words))
            break
    return labels


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ticks(most: float) -> list[float]:
    """Return round numbers from 0 to at least `most`, whole ones, three to six of them."""
    if most <= 4:
        return [float(tick) for tick in range(max(2, math.ceil(most) + 1))]
    raw = most / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= raw and size * power % 1 == 0)
    return [step * place for place in range(math.ceil(most / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
