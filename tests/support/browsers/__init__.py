"""A browser for tests of pages: Debian's Chromium, in `chromium.py`."""
