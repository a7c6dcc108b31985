"""What the web service asks of drivers: to start calculations, and for all that needs an engine.

`views.py` answers requests about results, `facts.py` those about the engine, `validations.py` those about
inputs; `starts.py` starts a calculation. `driver/run_mode.py` calls them.
"""
