"""How fast, how large and how exact the operators and models are, beside other implementations in the same run."""
