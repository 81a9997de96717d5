"""How a component refuses what it is given."""


class Unsuitable(ValueError):
    """Raised by a component that cannot take what the job gives it; the text says why and what it takes."""
