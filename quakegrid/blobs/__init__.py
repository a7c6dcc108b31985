"""Large frames that travel once to each node: the driver's table, local copies, shared memory."""
