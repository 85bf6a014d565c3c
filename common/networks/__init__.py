"""Networks: how they are built, saved and loaded, and everything that moves weights."""
