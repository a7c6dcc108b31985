"""Installing QuakeGrid as services of a machine: what to write where, and writing it.

cli/install.py > plan.py (steps, pure) > units.py, config_text.py (texts, pure)
> environments.py       whether root can rely on the environment
> accounts.py           accounts of this machine
> machine.py            what is there; does the steps and notes them
> removal.py            undoes what was noted
"""
