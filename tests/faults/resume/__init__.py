"""What becomes of calculations that are killed: they go on where they were, and give the same numbers.

test_resuming.py   by `quakegrid resume`: one calculation, what is refused, what damage to a journal costs
test_damage.py     what a full disk, damage to a journal, other versions and two at once cost
test_killing.py    by themselves: kinds of calculations, killed in three places in six ways
test_restarts.py   by themselves: a machine with a queue that reboots, an agent that is restarted or upgraded
killing.py         watches a journal, and kills when it has so many outcomes
"""
