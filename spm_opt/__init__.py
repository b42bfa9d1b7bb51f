"""spm_opt: what to keep in a scratchpad, decided jointly and proven."""
