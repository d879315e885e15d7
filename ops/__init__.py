"""What operators and CI run: `run`, `test`, benches, the demo and the decisions."""
