"""Making: what a study is made of, what is to be made, and what make runs; see common/graph.py."""
