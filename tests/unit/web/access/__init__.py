"""The doors of the web service: where requests come from, who may ask for what."""
