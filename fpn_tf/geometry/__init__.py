"""Pure functions of tensors, the reference of every kernel."""
