"""A thousand real workers on one machine, for `bench_crowd.py` and `tests/system/test_crowd.py`.

measures.py  does something with a crowd and returns what that has cost; start here
work.py      keeps its workers at naps, and notes what became of each
cluster.py   the crowd: a broker, and agents that believe in many cores
tasks.py     what the workers run
bare.py      as many processes that do nothing but ZeroMQ: what its part is
"""
