"""The page around charts and tables: its head, its style sheet, and texts from outside as text."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

# Colours of series, begun again where there are more.
COLOURS = 6

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6370; --back: #ffffff; --line: #d9dde3;
  --c0: #2b5fb3; --c1: #a9471a; --c2: #2a7a3f; --c3: #7d3c98; --c4: #8a6d00; --c5: #94234a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a2aab6; --back: #15181d; --line: #363c45;
  --c0: #4a7fd4; --c1: #c9652f; --c2: #3f9a58; --c3: #a264bd; --c4: #a68a1f; --c5: #c04a72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, dd { max-width: 45rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom; }
.name { text-align: left; white-space: normal; min-width: 7rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); }
svg { width: 100%; height: auto; font: 15px system-ui, sans-serif; } svg text { fill: var(--text); }
.grid { stroke: var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; }
pre { white-space: pre-wrap; margin: 0; font: inherit; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """Return a whole page that loads nothing and runs nothing but the given script.

    Parameters
    ----------
    title : str
        Escaped here.
    body : iterable of str
        HTML in which every text from outside is escaped.
    style : str
        Added to the common style sheet.
    script : str
        Of mlclf's own; the page's policy names its checksum, so that a browser runs no other, whatever a text holds.
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{shown(title)}</title>",
            f"<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>",
            *body,
            *([f"</main>\n<script>{script}</script>"] if script else ["</main>"]),
            "</body>\n</html>\n",
        ]
    )


def scrolled(name: str, explained: str, table: str, box: str = "wide") -> str:
    """Return a table in a box that is scrolled where it is wider than the screen, below what explains it.

    Parameters
    ----------
    name : str
        Id of the explanation; no text from outside.
    explained : str
        Escaped here.
    table : str
        What stands inside the ``table`` element.
    box : str
        Classes of the box.
    """
    return (
        f'<p id="{name}">{shown(explained)}</p>'
        f'<div class="{box}" tabindex="0" role="region" aria-labelledby="{name}"><table aria-describedby="{name}">'
        f"{table}</table></div>"
    )


def rows_of_cells(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the inside of a table from cells that are HTML elements themselves.

    Parameters
    ----------
    head : sequence of str
        ``th`` elements.
    rows : iterable of sequence of str
        ``td`` and ``th`` elements.
    """
    lines = ("<tr>" + "".join(cells) + "</tr>" for cells in rows)
    return f"<thead><tr>{''.join(head)}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody>"


def shown(text: object) -> str:
    r"""Return a text as it may stand anywhere in a page: escaped, with control characters as they are written in code.

    Examples
    --------
    >>> print(shown("<b>\x1b"))
    &lt;b&gt;\x1b
    """
    visible = (c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else repr(c)[1:-1] for c in str(text))
    return escape("".join(visible))


def _policy(script: str) -> str:
    """Return what a browser may load and run: nothing but the style sheet and the script of the page itself."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    if not script:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"
