"""The decisions of an agent, without a process, a clock or a file. Pure.

`roster.py`: which worker has which core, and who is signalled. `lineage.py`: which template takes orders;
with it go `lineage_events.py`, `template_life.py`, `load_failures.py`, `template_reports.py`. `memory.py` and
`stopped_workers.py`: which worker is killed for a limit. `output_lines.py`: what is kept of its output.
"""
