"""The command line as a shell and its users meet it: misspelled words, lists of commands, completion.

`near_words.py` knows what may be meant, `groups.py` is what groups of commands have in common,
`completion.py` is the command. Start with `groups.py`.
"""
