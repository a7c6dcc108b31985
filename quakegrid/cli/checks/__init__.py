"""Commands that look before something is done: at a calculation, at settings, at an upgrade.

`check.py` is `quakegrid check`, `estimates.py` says how large a calculation will be (pure), `config.py` shows
and checks settings, `upgrade.py` compares versions.
"""
