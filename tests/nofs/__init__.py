"""Clusters whose machines share nothing but a network: `make test-nofs`."""
