"""Commands on a machine without engine and cluster: files go to the master and results come back by HTTPS."""
