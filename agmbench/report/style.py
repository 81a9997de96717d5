"""How pictures are drawn with matplotlib, even if the working directory has settings of its own.

`drawn` is for the PNG plots of runs and sweeps: matplotlib's defaults. `themed` is for the vector pictures of a report: colours are
placeholders that `charts.py` replaces by variables of the page's style sheet, so one picture serves the light and the dark theme.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import matplotlib.style

matplotlib.use("agg")

PLAIN = {"text.parse_math": False}  # so that a '$' in a name is shown as it is
COLOURS = 8  # the number of colours in page.css, --c0 to --c7
VARIABLES = {f"#0000c{number}": f"var(--c{number})" for number in range(COLOURS)}
INK, SOFT, RULE, CARD = "#0000d0", "#0000d1", "#0000d2", "#0000d3"
VARIABLES |= {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", CARD: "var(--card)"}

drawn = matplotlib.style.context(["default", PLAIN])
themed = matplotlib.style.context(
    [
        "default",
        PLAIN,
        {
            "svg.fonttype": "none",  # text stays text: it can be searched, and takes the font of the page
            "svg.hashsalt": "agmbench",  # so that the same picture has the same bytes
            "font.size": 12,
            "text.color": INK,
            "axes.titlesize": 12,
            "axes.titleweight": 700,
            "axes.titlelocation": "left",
            "axes.titlecolor": INK,
            "axes.labelcolor": SOFT,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "grid.color": RULE,
            "xtick.color": RULE,
            "ytick.color": RULE,
            "xtick.labelcolor": SOFT,
            "ytick.labelcolor": SOFT,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "axes.spines.left": False,
            "axes.spines.bottom": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
        },
    ]
)


def colour(number: int) -> str:
    """The placeholder of one of the page's colours, `--c0` to `--c7`."""
    return f"#0000c{number}"


@contextmanager
def any_script() -> Iterator[None]:
    """Allow text in scripts that the font lacks: inside the block, matplotlib does not warn about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
