"""All of the engine's QA data, through QuakeGrid and through the plain engine: `make test-qa`.

    catalogue.py    which job files there are, and which earlier ones they start from
    plain.py        what the plain engine makes of them; kept in build/qa for the next time
    sides.py        a cluster of ours: on this machine, with hidden files, or with deaths
    deaths.py       loaded into the workers of a cluster with deaths
    ours.py         what such a cluster makes of the job files, some side by side
    verdicts.py     compares the two (pure); known.py has files that differ between runs of the engine
    progress.py     counts, the remaining time, the summary and the file of results

Start at `__main__.py`.
"""
