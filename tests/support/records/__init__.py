"""Records of tasks, made by hand."""
