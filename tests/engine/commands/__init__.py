"""Commands about calculations, with a real engine: check, compare, plot, and what belongs to them."""
