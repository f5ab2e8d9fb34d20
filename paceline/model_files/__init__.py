"""Files of models: what a name stands for, and what is wrong with it, without torch."""
