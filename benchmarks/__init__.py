"""Programs that measure QuakeGrid against its targets, and against the plain engine."""
