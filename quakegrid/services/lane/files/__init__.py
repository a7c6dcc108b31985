"""Files of jobs on their way from drivers to workers; the lane passes them on and keeps nothing."""
