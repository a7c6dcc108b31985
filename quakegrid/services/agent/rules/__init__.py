"""The decisions of an agent, without a process, a clock or a file. Pure.

`roster.py`: which worker has which core, and who is signalled; its events are in `roster_events.py`.
`lineage.py`: which template takes orders. With it go `lineage_events.py`, `template_life.py`,
`load_failures.py` and `template_reports.py`.
`service.py`: whether and with how many cores the node serves the fleet.
`memory.py`, `stopped_workers.py`: which worker is killed for a limit.
`output_lines.py`: what is kept of the output of workers.
"""
