"""Files that start clusters, beside those of Kubernetes."""
