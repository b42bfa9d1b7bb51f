"""The network on paper: operators, tensors, layers."""
