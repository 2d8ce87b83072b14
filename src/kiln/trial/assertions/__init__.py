"""The vocabulary of assertions: one small type each, with typed parameters and a pure verdict."""
