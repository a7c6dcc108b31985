"""Commands about results of calculations: compare two, draw one, remove old ones.

sources.py                where results come from: a driver of this machine, or the web service
compare.py, plot.py       the commands; `views/plots.py` draws
prune.py, old_jobs.py     the command, and which jobs it removes (pure)
"""
