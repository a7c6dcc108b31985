"""People: their credentials, which of them count, and who revoked them."""
