"""Installing QuakeGrid as services of a machine: what to write where, and writing it.

`plan`, `units` and `config_text` are pure; `machine` looks at the machine and changes it.
"""
