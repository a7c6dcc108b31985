"""openquake.cfg: values, reader, reference, limits of nodes, keys. Depends only on `quakegrid.errors`."""
