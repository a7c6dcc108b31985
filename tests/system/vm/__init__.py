"""Virtual machines with systemd and cgroup v2: how they are made, and how tests drive them."""
