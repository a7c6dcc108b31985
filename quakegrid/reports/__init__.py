"""What happened in a job: task history, report, explanations.

task_history_files.py (bytes) --> task_history.py (attempts) --> job_report.py (where the time went)
                                                                       --> explanations.py (sentences)
"""
