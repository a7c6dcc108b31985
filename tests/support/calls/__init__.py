"""Functions and programs that tests have other processes run, which import them by name."""
