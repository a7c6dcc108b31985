"""The processes of a cluster, one package each."""
