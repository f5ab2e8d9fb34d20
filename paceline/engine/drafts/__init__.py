"""Which engine computes a draft: each is prepared and measured once, and the best is started."""
