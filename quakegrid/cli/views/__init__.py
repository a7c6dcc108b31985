"""What the command line prints and draws: tables, progress, reports."""
