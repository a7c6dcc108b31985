"""The whole system as a black box."""
