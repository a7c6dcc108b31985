"""What an agent decides, without a process, a clock or a file. Pure.

`roster.py`: which worker has which core; `lineage.py`: which template takes orders; `memory.py` and
`stopped_workers.py`: which worker is ended; `output_lines.py`: what is kept of its output.
"""
