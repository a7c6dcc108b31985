"""This computer: its services, its own cluster, service files, node state, temporary folders.

Used by services: `service_files.py` (how commands find them), `service_life.py` (what ends them),
`service_logs.py`, `process_memory.py`. Used by commands: `local_services.py` (start, stop), `own_cluster.py`
(the cluster of `quakegrid up`), `temporary_clusters.py`. Used by agents: `node_state.py`,
`temporary_folders.py`. About processes and hosts: `pinned_processes.py`, `parent_death.py`,
`own_addresses.py`.
"""
