"""The closure of the momentum scale."""
