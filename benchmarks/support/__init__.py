"""Parts of the benchmarks: clients, neighbours to compare with, simulated lanes, figures."""
