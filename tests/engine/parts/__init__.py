"""Optional parts of the engine: what a calculation says that lacks one."""
