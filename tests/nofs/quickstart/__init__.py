"""The tutorial for machines that share nothing, typed word by word on four machines."""
