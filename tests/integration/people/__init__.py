"""Who may call what, over real connections; credentials of people."""
