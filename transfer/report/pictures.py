"""How pictures are drawn for a report: as text for the page itself, the same bytes every time."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind readers can tell apart; markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X"
#: What is drawn beside the methods: untrained networks, rows without training.
GRAY = "#767676"
_PNG = "data:image/png;base64,"


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        title: Its caption.
        description: What it shows, in words.
        content: Its SVG element, or a data URL.
        wide: Whether it takes the whole width of the page.
    """

    title: str
    description: str
    content: str
    wide: bool = False

    @property
    def is_svg(self) -> bool:
        """Whether the content is an SVG element."""
        return self.content.startswith("<svg")

    def file(self) -> str | bytes:
        """Return a file of its own: PNG; or SVG on white, as a page with dark colours may show it, too."""
        if not self.is_svg:
            return base64.b64decode(self.content.removeprefix(_PNG))
        head, end, rest = self.content.partition(">")
        white = '<rect width="100%" height="100%" fill="white"/>'
        return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{end}\n {white}{rest}'


@contextmanager
def drawing(salt: str) -> Iterator[None]:
    """Draw and save so that text stays text, and that the same picture has the same bytes every time.

    Args:
        salt: What tells the ids of one plot of a page from those of another.
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 11}):
        yield


def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG element."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def png_of(figure: Figure) -> str:
    """Return a figure as the data URL of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return png_url(buffer.getvalue())


def png_url(content: bytes) -> str:
    """Return the bytes of a PNG file as a data URL."""
    return _PNG + base64.b64encode(content).decode()


def legend_below(figure: Figure) -> None:
    """Set a figure's legend below its axes; names in it are no formulas."""
    legend = figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
