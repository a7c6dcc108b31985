"""The processes of a cluster: one package each. They import `quakegrid`, never each other."""
