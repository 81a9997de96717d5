"""How plots are drawn: with matplotlib's defaults, even if the working directory has matplotlib settings."""

import matplotlib
import matplotlib.style

matplotlib.use("agg")
drawn = matplotlib.style.context(["default", {"text.parse_math": False}])  # a '$' in a name is a letter
