"""How quick recall is, beside engines that people search text and vectors with."""
