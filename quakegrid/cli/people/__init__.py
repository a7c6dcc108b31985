"""Commands about people and nodes: `user`, `token`, `node`, and `login`, `logout` and `whoami`."""
