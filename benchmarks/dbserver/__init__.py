"""What measures a dbserver: both sides, a database of real size, and who reads and writes it."""
