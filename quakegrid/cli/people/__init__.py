"""Commands about people: `user`, and `login`, `logout` and `whoami`."""
