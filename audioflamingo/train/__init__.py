"""Training: clips from the world, losses, optimisation, and the recipe of the embedded model."""
