"""QuakeGrid: OpenQuake calculations on many machines, without ssh and without a scheduler."""

__version__ = "0.1.0"
