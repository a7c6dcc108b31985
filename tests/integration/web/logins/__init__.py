"""People who log in at the web service over TLS: with passwords, links and tokens; and attacks on that."""
