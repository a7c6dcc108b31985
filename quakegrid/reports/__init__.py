"""What came of a job: task history, report, explanations."""
