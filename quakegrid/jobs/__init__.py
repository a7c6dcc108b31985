"""Values of jobs: states, ids, filters, texts, the engine's values. No connection."""
