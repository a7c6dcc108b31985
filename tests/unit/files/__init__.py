"""The files of a job: what belongs to it, blocks, tables, proofs."""
