"""The engine's `dbcmd`, answered by the dbserver: calls, the driver's hold on its job, pages of the log."""
