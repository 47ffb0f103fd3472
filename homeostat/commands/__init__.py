"""The commands of `homeostat`, one file for each group; heavy imports stand inside them."""
