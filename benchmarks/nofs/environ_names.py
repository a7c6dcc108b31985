"""The variables by which the benchmark tells its workers what to do."""

DELAY_S = "QUAKEGRID_BENCH_DELAY_S"
BYTES = "QUAKEGRID_BENCH_BYTES"
