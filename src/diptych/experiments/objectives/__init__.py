"""The objectives benchmark: every objective trained alike, and what the models know, compared."""
