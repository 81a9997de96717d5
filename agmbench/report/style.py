"""How plots are drawn: as matplotlib comes, whatever settings lie in the working directory, where matplotlib looks for some."""

import matplotlib
import matplotlib.style

matplotlib.use("agg")
drawn = matplotlib.style.context(["default", {"text.parse_math": False}])  # a '$' in a name is a letter
