"""The servicers of the dbserver, one module a contract: decode, call, encode."""
