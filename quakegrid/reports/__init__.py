"""What happened in a job: task history, report, explanations."""
