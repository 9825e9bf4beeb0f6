"""How well recall finds what answers: on LoCoMo and LongMemEval, weight by weight, and beside peers."""
