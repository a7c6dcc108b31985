"""The model of `bench_medium.py`: two zones and a fault, 1,200 sites, 5,000 buildings.

`buildings.py` makes the exposure.
"""
