"""What becomes of calculations that are killed: they go on where they were, and give the same numbers.

test_resuming.py   by `quakegrid resume`: one calculation, what is refused, what damage to a journal costs
test_killing.py    by themselves: kinds of calculations, killed in three places in six ways
killing.py         watches a journal, and kills when it has so many outcomes
"""
