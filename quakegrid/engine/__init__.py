"""The bridge to openquake.engine 3.26.x, which stays unmodified.

Only the agent's template imports this package. Importing it imports the engine.
"""
