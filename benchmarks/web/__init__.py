"""Parts of `bench_web`: a crowd of open pages in a process of its own, real calculations, and large files."""
