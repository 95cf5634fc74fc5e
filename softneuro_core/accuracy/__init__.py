"""How much a plan may round: noise of each layer by trial, plans within a bound, and the bound held on data."""
