"""What tests need, and where it is. Fixtures are in the conftest.py of the folder.

| I need ... | take | starts in |
|---|---|---|
| a dbserver | fixture `dbserver` of `tests/integration`, or `dbservers.serving(settings)` | 0.1 s |
| a dbserver to signal or to kill | fixture `dbserver_process`, or `processes.Service` | 1 to 2 s |
| settings and ports where nothing runs | fixture `settings`, or `processes.make_state` | |
| a broker and agents, a node for each loopback address | `nodes.running_nodes` | 3 s |
| a cluster with the engine, by its command line | fixture `cluster`, or `clusters.running_cluster` | 10 s |
| a broker without sockets | `broker_fakes` | |
| the door of a lane without sockets | `doors` | |
| a network namespace, or several behind a firewall (as root) | `namespaces.Network` | |
| a cluster whose nodes are namespaces (as root) | `namespace_cluster`, `tests.system.machines` | 5 s |
| a machine with accounts, and a cluster on it (as root) | `machine`, `people` of `tests.people` | 2 s |
| a terminal for a command, with keys to press (a pty) | `tests.faults.following.terminals` | |
| a wall clock that the test sets, for a process | `clocks.Clock` | |
| another release of QuakeGrid | `releases` | |
| peers that break the protocol, certificates of people, nodes and drivers | `strangers` | |
| calls and programs that workers, drivers or fresh interpreters run | `calls` | |
| memory, descriptors and start of a process | `kernel` | |
| what upstream's `oq workers` starts | `upstream_workers` | |

A test that may not run beside others has the mark `alone`, with the reason in a comment.
"""
