"""The checks of the doctor: facts in, findings out. Pure."""
