"""What tests need, by module.

| I need ... | module |
|---|---|
| a dbserver in the test's process | `dbservers` |
| a service as a process, to kill or signal | `processes` |
| agents and a broker on loopback addresses | `nodes` |
| a whole cluster, through its command line | `clusters` |
| a broker or a lane without sockets | `broker_fakes`, `doors` |
| a cluster in network namespaces | `namespaces`, `namespace_cluster` |
| a clock that the test sets | `clocks` |
| another release of QuakeGrid | `releases` |
| peers that break the protocol | `strangers` |
| memory and descriptors of a process | `kernel` |
"""
