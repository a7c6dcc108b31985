"""Values of jobs and of what they say: states, ids, texts, the engine's values. No connection."""
