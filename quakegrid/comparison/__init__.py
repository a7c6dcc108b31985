"""Comparing two calculations: their parameters, and the tables that are exported, within a tolerance.

    parameters.py   which parameters differ
    numbers.py      when two numbers count as the same
    tables.py       two tables as the engine exports them (CSV), built on `numbers.py`

What "same" means:

    parameters                               the same texts, without those that change no result
    results, `quakegrid jobs compare`        texts letter by letter, numbers within a tolerance
    results, page that compares two          numbers of datastores to the last digit, and no texts

So two calculations may be the same for the command line, and differ in some last digits on the page. The
page takes `parameters.py` from here, and compares numbers in `engine/web/result_numbers.py`. Start with
`tables.py`.
"""
