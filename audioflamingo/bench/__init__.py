"""Speed: what the machine allows, what we take, what transformers' own class takes for the same work."""
