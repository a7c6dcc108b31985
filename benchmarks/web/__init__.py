"""Parts of `bench_web`: a crowd of open pages in a process of its own, and large files."""
