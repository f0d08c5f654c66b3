"""Frame: an ``svg`` element with two axes, in which points and lines are placed by their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlclf.charts.axis import Axis
from mlclf.charts.document import shown


@dataclass(frozen=True)
class Frame:
    """The place of values on a drawing.

    Parameters
    ----------
    across, upwards : Axis
    width, height : int
        Of the whole drawing, in its own units.
    left, right, top, bottom : int
        Margins.

    Examples
    --------
    >>> frame = Frame(Axis.over([0, 1], logarithmic=False), Axis.over([0, 1], logarithmic=False))
    >>> frame.x(0), frame.y(0)
    (72.0, 344.0)
    """

    across: Axis
    upwards: Axis
    width: int = 640
    height: int = 400
    left: int = 72
    right: int = 28
    top: int = 20
    bottom: int = 56

    def x(self, value: float) -> float:
        """Return where a value stands from left to right."""
        return self.left + self.across.place(value) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return where a value stands from top to bottom."""
        return self.height - self.bottom - self.upwards.place(value) * (self.height - self.top - self.bottom)

    def path(self, points: Iterable[tuple[float, float]], kind: str) -> str:
        """Return a line through points that are given by their values.

        Parameters
        ----------
        points : iterable of (float, float)
        kind : str
            Classes of the page's style sheet.
        """
        places = " ".join(f"{self.x(x):.0f},{self.y(y):.0f}" for x, y in points)
        return f'<polyline class="{kind}" points="{places}"/>' if places else ""

    def grid(self, tick_across: Callable[[float], str], tick_upwards: Callable[[float], str]) -> list[str]:
        """Return the lines of both axes and the numbers at them."""
        foot, end = self.height - self.bottom, self.width - self.right
        lines = []
        for value in self.upwards.ticks:
            y = self.y(value)
            lines.append(f'<line class="grid" x1="{self.left}" y1="{y:.1f}" x2="{end}" y2="{y:.1f}"/>')
            lines.append(text(self.left - 8, y + 4, tick_upwards(value), "end"))
        for value in self.across.ticks:
            x = self.x(value)
            lines.append(f'<line class="grid" x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" y2="{foot}"/>')
            lines.append(text(x, foot + 18, tick_across(value)))
        return lines

    def labels(self, across: str, upwards: str) -> list[str]:
        """Return the names of both axes."""
        middle = (self.left + self.width - self.right) / 2
        turned = f"translate(14 {(self.top + self.height - self.bottom) / 2}) rotate(-90)"
        return [
            text(middle, self.height - 10, across),
            f'<text transform="{turned}" text-anchor="middle">{shown(upwards)}</text>',
        ]

    def svg(self, name: str, title: str, description: str, elements: Iterable[str]) -> str:
        """Return the whole drawing.

        Parameters
        ----------
        name : str
            For ids in the page; no text from outside.
        title, description : str
            The chart in words, for those who do not see it; escaped here.
        elements : iterable of str
            SVG elements, later ones above earlier ones.
        """
        ids = f"{name}-title", f"{name}-text"
        return "\n".join(
            [
                f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-labelledby="{ids[0]} {ids[1]}">',
                f'<title id="{ids[0]}">{shown(title)}</title>',
                f'<desc id="{ids[1]}">{shown(description)}</desc>',
                *elements,
                "</svg>",
            ]
        )


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    """Return a ``text`` element; the words are escaped.

    Examples
    --------
    >>> text(10, 20, "a < b")
    '<text x="10.0" y="20.0" text-anchor="middle">a &lt; b</text>'
    """
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown(words)}</text>'
