"""The engine's tasks on a lane: starmaps, shared arrays, workers, failures."""
